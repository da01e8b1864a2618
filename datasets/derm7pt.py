from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Derm7pt(SplitDataset):
    dataset_dir, split = "derm7pt", "derm7pt.json"
    classnames = (
        "carcinoma",
        "keratosis",
        "melanoma",
        "miscellaneous",
        "nevus",
    )
