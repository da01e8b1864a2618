from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class PNEUMONIA2(SplitDataset):
    dataset_dir, split = "pneumonia", "pneumonia2.json"
    classnames = (
        "normal",
        "pneumonia",
    )


@DATASET_REGISTRY.register()
class PNEUMONIA3(SplitDataset):
    dataset_dir, split = "pneumonia", "pneumonia3.json"
    classnames = (
        "normal",
        "bacteria pneumonia",
        "virus pneumonia",
    )
