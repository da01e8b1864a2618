from dassl.modeling.backbone import resnet, torchvision  # noqa: F401  they register
from dassl.modeling.backbone.backbone import Backbone  # noqa: F401
from dassl.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone  # noqa: F401


def __getattr__(name: str):
    """Every backbone by its name, as `from dassl.modeling.backbone import resnet18`."""
    if name not in BACKBONE_REGISTRY.registered_names():
        raise AttributeError(f"module {__name__} has no '{name}'")
    return BACKBONE_REGISTRY.get(name)
