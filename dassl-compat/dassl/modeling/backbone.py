"""Feature extractors: torchvision's classifiers without their last layer."""

from torch import Tensor, nn

from dassl.utils.registry import Registry, check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")
TORCHVISION = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"efficientnet_b{size}" for size in range(8)),
    "alexnet",
    "vgg16",
    "mobilenet_v2",
    "vit_b_16",
)


class Backbone(nn.Module):
    """A module that names the width of its features."""

    @property
    def out_features(self) -> int:
        return self._out_features


class Headless(Backbone):
    """A classifier whose last linear layer is left out: images (B, 3, H, W) -> features (B, out_features)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        name, last = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
        self.model, self._out_features = model, last.in_features

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def torchvision_backbone(name: str):
    def make(pretrained: bool = True, **kwargs) -> Backbone:
        from torchvision.models import get_model

        return Headless(get_model(name, weights="DEFAULT" if pretrained else None))

    make.__name__ = name
    return make


for _name in TORCHVISION:
    BACKBONE_REGISTRY.register(torchvision_backbone(_name))


def build_backbone(name: str, verbose: bool = True, **kwargs) -> Backbone:
    check_availability(name, BACKBONE_REGISTRY.registered_names(), "MODEL.BACKBONE.NAME")
    if verbose:
        print(f"Backbone: {name}")
    return BACKBONE_REGISTRY.get(name)(**kwargs)
