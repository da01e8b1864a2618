from torch import Tensor, nn

from dassl.modeling.head.build import HEAD_REGISTRY
from dassl.utils.errors import SettingError
from dassl.utils.tools import check_availability

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class MLP(nn.Module):
    """Linear layers, each followed by batch normalisation, an activation and dropout."""

    def __init__(
        self, in_features: int = 2048, hidden_layers=(), activation: str = "relu", bn: bool = True, dropout: float = 0.0
    ):
        super().__init__()
        widths = [in_features, *([hidden_layers] if isinstance(hidden_layers, int) else hidden_layers)]
        if len(widths) < 2:
            raise SettingError("MODEL.HEAD.HIDDEN_LAYERS is empty: name the width of each layer")
        check_availability(activation, ACTIVATIONS, "MODEL.HEAD.ACTIVATION")
        layers = []
        for width, following in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(width, following), *([nn.BatchNorm1d(following)] if bn else [])]
            layers += [ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout > 0 else [])]
        self.mlp = nn.Sequential(*layers)
        self.out_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


@HEAD_REGISTRY.register()
def mlp(**kwargs) -> MLP:
    return MLP(**kwargs)
