"""Tiny CLIPs that several tests share."""

import clip.model
import torch

from cilmp.clip import CLIP
from cilmp.clip.block import Style
from cilmp.clip.towers import ImageTower, TextTower

WORDS = "normal viral bacterial pneumonia adenocarcinoma in situ with glaucoma hemorrhage nevus".split()
CLASSNAMES = ["normal", "viral pneumonia", "adenocarcinoma in situ"]


def openai_clip(vision_layers=2) -> clip.model.CLIP:
    """OpenAI's own class."""
    torch.manual_seed(0)
    vision = 64 if isinstance(vision_layers, int) else 8
    model = clip.model.CLIP(48, 32, vision_layers, vision, 16, 77, 49408, 64, 2, 2)
    for name, value in model.state_dict().items():  # the zeros and ones of a fresh model would hide mistakes
        if value.is_floating_point() and "running_var" not in name and "logit_scale" not in name:
            value.add_(torch.randn_like(value) * 0.05)
    return model.eval()


TIMM = dict(style=Style("gelu", 1e-6), pre=False, bias=True)
MEAN = dict(style=Style("gelu", scaled=True), pool="mean", late=True, head="plain")
SIGLIP = dict(style=Style("gelu_tanh", 1e-6), pool="attention", cls=False, pre=False, bias=True, head="none")
BERT = dict(style=Style("gelu", 1e-12, post_norm=True), causal=False, reads="first", pre=True, final=False, head="mlp")
SEEN = dict(style=Style("gelu_tanh", 1e-6), causal=False, padded=True, reads="last", head="linear")
TOWERS = {  # arguments of the image and the text tower
    "openai": ({}, {}),
    "biomedclip": (TIMM, BERT),
    "unimed": ({}, BERT),
    "normed": ({}, dict(pre=True)),
    "siglip": (SIGLIP, SEEN),
    "variants": (MEAN, SEEN | dict(style=Style("gelu", scaled=True), reads="eot")),
    "last": (TIMM, dict(padded=True, reads="last")),
}


class WordPieces:
    """[CLS] text [SEP]: a word of the tests is one to three pieces."""

    start = end = 1
    pad, placeholder = 0, "x"

    def __init__(self, context: int):
        self.context = context

    def encode(self, text: str) -> list[int]:
        pieces = [i for word in text.replace(".", " .").split() for i in self.word(word)]
        return [2, *pieces, 3]

    def word(self, word: str) -> list[int]:
        return [10 + (len(word) * 7 + ord(word[0]) + i) % 80 for i in range(1 + len(word) // 6)]


def random_clip(
    heads: int = 2, text_layers: int = 2, image_layers: int = 2, seed: int = 0, kind: str = "openai"
) -> CLIP:
    """Ours, in double precision; kind: one of TOWERS."""
    torch.manual_seed(seed)
    width, (image, text) = 8 * heads, TOWERS[kind]
    own = text.get("style", Style()).activation != "quick_gelu"
    embed = width + 8 if image.get("head") == "none" else 12
    visual = ImageTower(32, 16, width + 8, image_layers, 1, embed, **image)
    words = TextTower(width, text_layers, heads, 77, embed, **text)
    model = CLIP(visual, words, 100 if own else 49408, WordPieces(77) if own else None).double()
    for parameter in model.parameters():
        if parameter.dim():
            parameter.data.normal_(std=0.3)
    return model.eval()
