from torch import nn

from dassl.utils.registry import Registry
from dassl.utils.tools import check_availability

HEAD_REGISTRY = Registry("HEAD")


def build_head(name: str, verbose: bool = True, **kwargs) -> nn.Module:
    check_availability(name, HEAD_REGISTRY.registered_names(), "MODEL.HEAD.NAME")
    if verbose:
        print(f"Head: {name}")
    return HEAD_REGISTRY.get(name)(**kwargs)
