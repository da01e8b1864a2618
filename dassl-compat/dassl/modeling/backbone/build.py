from dassl.modeling.backbone.backbone import Backbone
from dassl.utils.registry import Registry
from dassl.utils.tools import check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(name: str, verbose: bool = True, **kwargs) -> Backbone:
    check_availability(name, BACKBONE_REGISTRY.registered_names(), "MODEL.BACKBONE.NAME")
    if verbose:
        print(f"Backbone: {name}")
    return BACKBONE_REGISTRY.get(name)(**kwargs)
