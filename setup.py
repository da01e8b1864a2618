"""Where the packages lie; everything else stands in pyproject.toml.

The house keeps `trainers/`, `datasets/`, `configs/` and `docs/` at the top; an installed package must not be called
`datasets` (Hugging Face owns that name), so all four are mapped into `cilmp`; of docs/ only what programs read ships.
The links cilmp/trainers and cilmp/datasets are for editors and type checkers, which do not read this mapping.  Nothing
else needs them: where Git makes no links (Windows without developer mode) they are two small text files, and only
editors miss something.
"""

from setuptools import find_packages, setup

mapped = {"cilmp.trainers": "trainers", "cilmp.datasets": "datasets"}
packages = set(find_packages(include=["cilmp", "cilmp.*"]))
for name, folder in mapped.items():
    packages |= {name, *(f"{name}.{sub}" for sub in find_packages(folder))}

setup(
    packages=sorted(packages | {"cilmp.configs", "cilmp.docs"}),
    package_dir=mapped | {"cilmp.configs": "configs", "cilmp.docs": "docs"},
    package_data={"cilmp": ["assets/**/*"], "cilmp.configs": ["**/*.yaml"], "cilmp.docs": ["published.csv"]},
    include_package_data=False,  # what ships is what is listed here, whatever else lies about
)
