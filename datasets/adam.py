from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class ADAM(SplitDataset):
    dataset_dir, split = "adam", "adam.json"
    classnames = (
        "normal fundus",
        "fundus with age-related macular degeneration",
    )
