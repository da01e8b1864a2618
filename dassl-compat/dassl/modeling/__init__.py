from dassl.modeling.backbone import BACKBONE_REGISTRY, Backbone, build_backbone  # noqa: F401
from dassl.modeling.head import HEAD_REGISTRY, build_head  # noqa: F401
from dassl.modeling.network import NETWORK_REGISTRY, build_network  # noqa: F401
