from dassl.data.datasets.base_dataset import DatasetBase, Datum  # noqa: F401
from dassl.data.datasets.build import DATASET_REGISTRY, build_dataset  # noqa: F401
