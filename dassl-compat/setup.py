from setuptools import find_packages, setup

setup(
    name="dassl",
    version="0.6.3+compat",
    description="An independent implementation of the parts of Dassl's API that trainers and data sets use",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(),
    package_dir={"": "."},  # an editable install is then a path, which no folder of the same name can shadow
    install_requires=["torch>=2.2", "torchvision", "numpy", "pillow", "yacs", "tabulate", "tqdm", "scikit-learn"],
    extras_require={"tensorboard": ["tensorboard"]},
)
