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

SIXTY = (  # sixty of CLIP's eighty for ImageNet, those PromptSRC's teacher knows
    *("a {} in a video game.", "the {} in a video game.", "a photo of many {}.", "a photo of one {}."),
    *("a photo of my {}.", "art of a {}.", "graffiti of a {}.", "itap of the {}.", "a tattoo of a {}."),
    *("a plastic {}.", "the plastic {}.", "a embroidered {}.", "the embroidered {}.", "a origami {}."),
    *("the origami {}.", "a cartoon {}.", "the toy {}.", "a drawing of a {}."),
    *(f"a {work} of {a} {{}}." for work in ("sculpture", "rendering", "rendition", "painting") for a in ("a", "the")),
    *(f"a {work} of {a} {{}}." for work in ("sketch", "doodle") for a in ("a", "the")),
    *(f"a {kind} photo of {a} {{}}." for kind in ("bad", "low resolution", "cropped", "bright") for a in ("a", "the")),
    *(f"a {kind} photo of {a} {{}}." for kind in ("close-up", "pixelated", "blurry") for a in ("a", "the")),
    *("a photo of a {}.", "a photo of the {}."),
    *("a good photo of the {}.", "a jpeg corrupted photo of a {}.", "a black and white photo of the {}."),
    *("a dark photo of the {}.", "a photo of a hard to see {}.", "a photo of the hard to see {}."),
    *("a photo of a clean {}.", "a photo of the clean {}.", "a photo of a dirty {}.", "a photo of the dirty {}."),
    *("a photo of a large {}.", "a photo of a nice {}.", "a photo of a weird {}.", "a photo of the cool {}."),
)  # fmt: skip


def template_of(dataset: str) -> str:
    return TEMPLATES.get(dataset, DEFAULT)


@torch.no_grad()
def text_features(
    clip: CLIP, classnames: Sequence[str], templates: Sequence[str] = (DEFAULT,), unit: bool = True
) -> Tensor:
    """(C, E): features of every template, each of length one if `unit`, averaged."""
    features = torch.zeros(())
    for template in templates:
        tokens = clip.tokenize([template.format(name.replace("_", " ")) for name in classnames])
        encoded = clip.encode_text(tokens).float()
        features = features.to(encoded.device) + (F.normalize(encoded, dim=-1) if unit else encoded)
    return features / len(templates)


@torch.no_grad()
def sentence_features(clip: CLIP, sentences: Sequence[Sequence[str]]) -> Tensor:
    """P sentences of each class -> (C, P, E), not normalised.  UserError where one is longer than CLIP reads."""
    return torch.stack([clip.encode_text(clip.tokenize(said)).float() for said in sentences])
