"""Tiny CLIPs that several tests share."""

import clip.model
import torch

from cilmp.clip import CLIP
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


def random_clip(heads: int = 2, text_layers: int = 2, image_layers: int = 2, seed: int = 0) -> CLIP:
    """Ours, in double precision."""
    torch.manual_seed(seed)
    width = 8 * heads
    visual = ImageTower(32, 16, width + 8, image_layers, 1, 12)
    model = CLIP(visual, TextTower(width, text_layers, heads, 77, 12), 49408).double()
    for parameter in model.parameters():
        if parameter.dim():
            parameter.data.normal_(std=0.3)
    return model.eval()
