"""Hand-written sentences about a class, and the text features they give a frozen CLIP.

Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP

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


def template_of(dataset: str) -> str:
    return TEMPLATES.get(dataset, DEFAULT)


@torch.no_grad()
def text_features(clip: CLIP, classnames: Sequence[str], templates: Sequence[str] = (DEFAULT,)) -> Tensor:
    """(C, E): normalised features of every template, averaged."""
    features = torch.zeros(())
    for template in templates:
        tokens = clip.tokenize([template.format(name.replace("_", " ")) for name in classnames])
        encoded = clip.encode_text(tokens).float()
        features = features.to(encoded.device) + F.normalize(encoded, dim=-1)
    return features / len(templates)
