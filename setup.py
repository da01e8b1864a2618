"""The house keeps `trainers/` and `datasets/` at the top; an installed package must not be called `datasets`
(Hugging Face owns that name), so both are mapped into `cilmp`."""

from pathlib import Path

from setuptools import find_packages, setup

mapped = {"cilmp.trainers": "trainers", "cilmp.datasets": "datasets"}
packages = find_packages(include=["cilmp", "cilmp.*"])
for name, folder in mapped.items():
    packages += [name, *(f"{name}.{sub}" for sub in find_packages(folder))]

setup(
    name="cilmp",
    version="0.1.0",
    description="Prompt tuning of vision-language models for medical images: CILMP and its baselines, for Dassl",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=sorted(set(packages)),
    package_dir=mapped,
    package_data={"cilmp": ["assets/**/*"]},
    install_requires=[
        "torch>=2.2",
        "torchvision",
        "clip-anytorch",
        "setuptools<81",  # clip-anytorch imports pkg_resources
        "transformers",
        "yacs",
        "tabulate",
        "safetensors",
        "scikit-learn",
        "matplotlib",
        "pillow",
        "tqdm",
    ],
    extras_require={
        "gguf": ["gguf", "accelerate"],
        "data": ["imagehash", "openpyxl"],  # python -m cilmp.datasets: duplicates, Excel sheets
        "dicom": ["pydicom>=3"],
        "ray": ["ray"],  # LAUNCHER=ray
        "test": ["pytest", "hypothesis", "ruff", "gguf", "accelerate", "imagehash", "openpyxl", "pydicom>=3"],
    },
)
