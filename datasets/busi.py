from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BUSI(SplitDataset):
    dataset_dir, split = "busi", "busi.json"
    classnames = (
        "normal",
        "malignant",
        "benign",
    )
