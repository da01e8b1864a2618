"""SS-Text+: class prototypes in closed form between text and images, for sets that are not balanced.

Silva-Rodriguez et al., MICCAI 2025, "Few-shot, now for real", https://arxiv.org/abs/2506.17500.  With n_c images of
class c among N:  mu_c = (n_c / N) s sum_c f + t_c,  s the backbone's scale;  then every prototype goes one step away
from the others: mu_c - d_c, d_c the direction of 2 mu_c - mean(mu).  Nothing is chosen, so no validation image is
used, and a class that no image shows keeps its text.

Axes: N training images, C classes, E joint embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import PREC
from cilmp.trainers.features import Features, FeatureTrainer, FixedText
from cilmp.trainers.method import CLOSED, Task, normalise
from dassl.engine import TRAINER_REGISTRY

MOST = 1e3  # the largest weight of a class: the reference bounds 1 / n_c from below


class Prototypes(FixedText):
    kind, year, protocols, compared = "training-free", 2025, CLOSED, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        self.register_buffer("prototypes", F.normalize(self.fixed[0].clone(), dim=-1))  # (C, E)

    def text(self, f: Tensor) -> Tensor:
        return self.prototypes[None]

    def estimate(self, f: Tensor, label: Tensor) -> None:
        """From features f (N, E)."""
        text = F.normalize(self.fixed[0], dim=-1)
        self.prototypes = prototypes(normalise(f), label, text, self.clip.logit_scale.exp())


def prototypes(f: Tensor, label: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Normalised features f (N, E) and text (C, E) -> (C, E)."""
    shown = F.one_hot(label, len(text)).to(f)  # (N, C)
    weight = shown.sum(0).clamp(max=MOST) / len(f)
    mu = weight[:, None] * scale * (shown.T @ f) + text
    return mu - F.normalize(2 * mu - mu.mean(0), dim=-1)


@TRAINER_REGISTRY.register()
class SSTextPlus(FeatureTrainer):
    method, folder = Prototypes, "ss_text_plus"
    defaults = dict(PREC="fp32")
    ranges = dict(PREC=PREC)

    @torch.no_grad()
    def fit(self, train: Features, val: Features | None) -> None:
        self.model.estimate(train.x[0].to(self.device), train.label.to(self.device))
