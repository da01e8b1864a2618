from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class FETAL_US(SplitDataset):
    dataset_dir, split = "fetal-us", "fetal-us.json"
    classnames = (
        "Fetal brain",
        "Fetal femur",
        "Fetal abdomen",
        "Fetal thorax",
        "Maternal cervix",
        "Other planes",
    )
