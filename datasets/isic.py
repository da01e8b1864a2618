from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class ISIC(SplitDataset):
    dataset_dir, split = "isic", "split_isic.json"
    classnames = (
        "Melanoma",
        "Melanocytic nevus",
        "Basal cell carcinoma",
        "Actinic keratosis",
        "Benign keratosis",
        "Dermatofibroma",
        "Vascular lesion",
    )
