from dassl.utils.registry import Registry
from dassl.utils.tools import check_availability

NETWORK_REGISTRY = Registry("NETWORK")  # for third parties' own


def build_network(name: str, verbose: bool = True, **kwargs):
    check_availability(name, NETWORK_REGISTRY.registered_names(), "network")
    if verbose:
        print(f"Network: {name}")
    return NETWORK_REGISTRY.get(name)(**kwargs)
