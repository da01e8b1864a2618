from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CHAOYANG(SplitDataset):
    dataset_dir, split = "chaoyang", "chaoyang.json"
    classnames = (
        "normal",
        "serrated",
        "adenocarcinoma",
        "adenoma",
    )
