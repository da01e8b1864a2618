from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BLOODMNIST(SplitDataset):
    dataset_dir, split = "bloodmnist", "bloodmnist.json"
    classnames = (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    )
