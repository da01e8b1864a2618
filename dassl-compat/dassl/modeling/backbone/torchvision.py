"""torchvision's other classifiers without their last linear layer; their weights keep their names."""

from torch import nn

from dassl.modeling.backbone.backbone import Backbone
from dassl.modeling.backbone.build import BACKBONE_REGISTRY
from dassl.modeling.backbone.pretrained import headless, load_v1

CLASSIC = ("alexnet", "vgg16")  # weights named, and drawn, as in Dassl
OTHERS = (*(f"efficientnet_b{size}" for size in range(8)), "mobilenet_v2", "vit_b_16")


def beheaded(model: nn.Module) -> Backbone:
    """The same module, now a Backbone: images (B, 3, H, W) -> features (B, out_features)."""
    name, last = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    kind = type(model)
    model.__class__ = type(kind.__name__, (Backbone, kind), {})
    model._out_features = last.in_features
    return model


def maker(name: str, **options):
    """A function that makes `name`."""

    def make(pretrained: bool = True, **kwargs) -> Backbone:
        from torchvision.models import get_model

        with headless():
            model = beheaded(get_model(name, **options))
        return load_v1(model, name) if pretrained else model

    make.__name__ = name
    return BACKBONE_REGISTRY.register(make)


for _name in CLASSIC:
    maker(_name, num_classes=0)
for _name in OTHERS:
    maker(_name)
