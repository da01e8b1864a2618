from torch import nn

from dassl.utils.registry import Registry, check_availability

HEAD_REGISTRY = Registry("HEAD")
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.1)}


class MLP(nn.Sequential):
    """Linear layers, each followed by batch normalisation, an activation and dropout."""

    def __init__(
        self, in_features: int, hidden_layers, activation: str = "relu", bn: bool = True, dropout: float = 0.0
    ):
        widths = [in_features, *([hidden_layers] if isinstance(hidden_layers, int) else hidden_layers)]
        check_availability(activation, ACTIVATIONS, "MODEL.HEAD.ACTIVATION")
        layers = []
        for width, following in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(width, following), *([nn.BatchNorm1d(following)] if bn else [])]
            layers += [ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout > 0 else [])]
        super().__init__(*layers)
        self.out_features = widths[-1]


@HEAD_REGISTRY.register()
def mlp(**kwargs) -> MLP:
    return MLP(**kwargs)


def build_head(name: str, verbose: bool = True, **kwargs) -> nn.Module:
    check_availability(name, HEAD_REGISTRY.registered_names(), "MODEL.HEAD.NAME")
    if verbose:
        print(f"Head: {name}")
    return HEAD_REGISTRY.get(name)(**kwargs)
