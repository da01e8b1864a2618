from cilmp.datasets.base import SplitDataset
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class ODIR(SplitDataset):
    dataset_dir, split = "odir", "odir.json"
    classnames = (
        "normal",
        "diabetes",
        "glaucoma",
        "cataract",
        "age related macular degeneration",
        "hypertension",
        "pathological myopia",
        "other diseases or abnormalities",
    )


@DATASET_REGISTRY.register()
class ODIR2(SplitDataset):
    dataset_dir, split = "odir_simple", "odir2.json"
    classnames = (
        "normal",
        "cataract",
    )
