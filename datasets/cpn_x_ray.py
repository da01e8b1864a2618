from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CPN_X_RAY(SplitDataset):
    dataset_dir, split = "cpn-x-ray", "cpn-x-ray.json"
    classnames = (
        "normal",
        "covid",
        "pneumonia",
    )
