from dassl.modeling.network.build import NETWORK_REGISTRY, build_network  # noqa: F401
