"""Zero-shot CLIP: class names in hand-written sentences, nothing trained.

Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip import CLIP
from cilmp.trainers.base import Prompted, PromptTrainer
from dassl.engine import TRAINER_REGISTRY

DEFAULT = "a photo of a {}."
TEMPLATES = {  # the natural-image sets of CoOp that do not use the default
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
ENSEMBLE = (  # CLIP's own choice of seven for ImageNet
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@torch.no_grad()
def ensemble(clip: CLIP, classnames: list[str], templates: list[str]) -> Tensor:
    """(C, E): normalised features of every template, averaged."""
    features = 0
    for template in templates:
        tokens = clip.tokenize([template.format(name.replace("_", " ")) for name in classnames])
        features = features + F.normalize(clip.encode_text(tokens).float(), dim=-1)
    return features / len(templates)


class Fixed(Prompted):
    """Text features computed once."""

    def __init__(self, clip: CLIP, classnames: list[str], templates: list[str]):
        super().__init__(clip)
        self.register_buffer("features", ensemble(clip, classnames, templates)[None], persistent=False)

    def text(self, f: Tensor) -> Tensor:
        return self.features  # (1, C, E)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    defaults = dict(PREC="fp16")

    def templates(self) -> list[str]:
        return [TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT)]

    def build_method(self, clip: CLIP, classnames: list[str], options) -> Fixed:
        templates = self.templates()
        print(f"Templates: {templates}")
        return Fixed(clip, classnames, templates)

    def train(self) -> None:
        print("Nothing to train: testing at once")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Ensemble of templates."""

    def templates(self) -> list[str]:
        return [*ENSEMBLE, *super().templates()]
