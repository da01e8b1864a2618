from dassl.utils.registry import Registry
from dassl.utils.tools import check_availability

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names(), "DATASET.NAME")
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
