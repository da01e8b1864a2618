"""Where the packages lie; everything else stands in pyproject.toml.

The house keeps `trainers/`, `datasets/` and `configs/` at the top; an installed package must not be called `datasets`
(Hugging Face owns that name), so all three are mapped into `cilmp`.  The links cilmp/trainers and cilmp/datasets are
for editors and type checkers, which do not read this mapping.  Nothing else needs them: where Git makes no links
(Windows without developer mode) they are two small text files, and only editors miss something.
"""

from setuptools import find_packages, setup

mapped = {"cilmp.trainers": "trainers", "cilmp.datasets": "datasets"}
packages = set(find_packages(include=["cilmp", "cilmp.*"]))
for name, folder in mapped.items():
    packages |= {name, *(f"{name}.{sub}" for sub in find_packages(folder))}

setup(
    packages=sorted(packages | {"cilmp.configs"}),
    package_dir=mapped | {"cilmp.configs": "configs"},
    package_data={"cilmp": ["assets/**/*"], "cilmp.configs": ["**/*.yaml"]},
    include_package_data=False,  # what ships is what is listed here, whatever else lies about
)
