from dassl.modeling.head.build import HEAD_REGISTRY, build_head  # noqa: F401
from dassl.modeling.head.mlp import mlp  # noqa: F401
