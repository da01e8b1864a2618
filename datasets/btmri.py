from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BTMRI(SplitDataset):
    dataset_dir, split = "BTMRI", "split_BTMRI.json"
    images = "BTMRI"
    classnames = (
        "glioma tumor",
        "meningioma tumor",
        "pituitary tumor",
        "normal brain",
    )
