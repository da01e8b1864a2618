"""torchvision's ResNets without a classifier, with statistics mixed behind some stages if wanted."""

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from dassl.modeling.backbone.backbone import Backbone
from dassl.modeling.backbone.build import BACKBONE_REGISTRY
from dassl.modeling.backbone.pretrained import headless, load_v1
from dassl.modeling.ops import EFDMix, MixStyle

STAGES = ("layer1", "layer2", "layer3", "layer4")
LAYERS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(Backbone, resnet.ResNet):
    """Images (B, 3, H, W) -> features (B, out_features)."""

    def __init__(self, block, layers, ms_class=None, ms_layers=(), ms_p: float = 0.5, ms_a: float = 0.1, **kwargs):
        """ms_class: MixStyle or EFDMix, behind the stages `ms_layers`, with probability ms_p and Beta(ms_a, ms_a)."""
        with headless():
            super().__init__(block, list(layers), num_classes=0)
        self._out_features = self.fc.in_features
        del self.fc
        self.mixstyle = ms_class(p=ms_p, alpha=ms_a) if ms_layers else None
        self.ms_layers = ms_layers

    def featuremaps(self, x: Tensor) -> Tensor:
        """(B, out_features, H / 32, W / 32)"""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in STAGES:
            x = self.get_submodule(stage)(x)
            if stage in self.ms_layers:
                x = self.mixstyle(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.avgpool(self.featuremaps(x)).flatten(1)


def maker(name: str, suffix: str = "", mix: type[nn.Module] | None = None, stages: int = 0):
    """A function that makes `name`, with `mix` behind its first stages."""

    def make(pretrained: bool = True, **kwargs) -> ResNet:
        model = ResNet(*LAYERS[name], ms_class=mix, ms_layers=STAGES[:stages])
        return load_v1(model, name) if pretrained else model

    make.__name__ = name + suffix
    return BACKBONE_REGISTRY.register(make)


resnet18, resnet34, resnet50, resnet101, resnet152 = map(maker, LAYERS)
for _name in ("resnet18", "resnet50", "resnet101"):
    for _kind, _mix in (("ms", MixStyle), ("efdmix", EFDMix)):
        for _stages in (1, 2, 3):  # resnet18_ms_l1, _l12, _l123 ...
            maker(_name, f"_{_kind}_l{'123'[:_stages]}", _mix, _stages)
