from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class KVASIR(SplitDataset):
    dataset_dir, split = "kvasir", "kvasir.json"
    classnames = (
        "dyed lifted polyps",
        "dyed resection margins",
        "esophagitis",
        "normal cecum",
        "normal pylorus",
        "normal z-line",
        "polyps",
        "ulcerative colitis",
    )
