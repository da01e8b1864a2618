"""ProGrad: CoOp's context, moved only where that does not work against zero-shot CLIP.

Zhu et al., ICCV 2023, https://arxiv.org/abs/2205.14865

Of two losses the second, kl, is never descended; it only bends the gradient of the first.  Where kl has no gradient, as
in the first step of a context that starts from the teacher's words, the reference divides 0 by 0, or bends along a
rounding error; here nothing is bent.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.prompts import POSITIONS, context, length
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine import parallel
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, TEMPLATE, number, one_of
from cilmp.trainers.learners import TaughtContext
from cilmp.trainers.method import Task
from dassl.engine import TRAINER_REGISTRY

ROUNDING = 1e-5  # a gradient smaller than that beside the other is none


class AlignedContext(TaughtContext):
    year, compared = 2022, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        self.temperature = options.T

    def start(self, clip: CLIP, n: int, words: str) -> Tensor:
        """The words stand next to the class name, zeros before them."""
        if not words:
            return context(clip, n)
        m = length(clip, words)
        if m > n:
            raise UserError(f"TRAINER.PROGRAD.CTX_INIT has {m} tokens and N_CTX is {n}: set N_CTX {m} or more.")
        return F.pad(context(clip, m, words), (0, 0, n - m, 0))

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        f, text = self.features(image)
        logits, teacher = self.clip.logits(f, text), self.clip.logits(f, self.teacher)
        t = self.temperature
        kl = t**2 * F.cross_entropy(logits / t, (teacher / t).softmax(-1))  # up to the teacher's entropy
        return {"ce": F.cross_entropy(logits, label), "kl": kl}, logits


def aligned(a: Tensor, c: Tensor, weight: float) -> Tensor:
    """The gradient a; where it works against the gradient c of the same shape, without `weight` of its part along c."""
    norm = c.norm()
    n = torch.where(norm > ROUNDING * a.norm(), c / norm, 0)
    return a - weight * (a * n).sum().clamp(max=0) * n


@TRAINER_REGISTRY.register()
class ProGrad(CLIPTrainer):
    method, alias, unread = AlignedContext, ("TRAINER.COOP", "LOSS"), ("ALPHA", "GM", "NAME", "W")
    means = {"CTX_INIT": {"True": "a photo of a", "False": ""}}
    defaults = dict(
        N_CTX=16,
        CSC=False,
        CTX_INIT="a photo of a",
        CLASS_TOKEN_POSITION="end",
        T=1.0,
        LAMBDA=1.0,
        TEMPLATE="",
        PREC="fp16",
    )
    ranges = dict(
        N_CTX=COUNT,
        CLASS_TOKEN_POSITION=one_of(*POSITIONS),
        T=number(0, open_low=True),
        LAMBDA=AT_LEAST_0,
        TEMPLATE=TEMPLATE,
        PREC=PREC,
    )

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        general = torch.autograd.grad(losses["kl"], trained, retain_graph=True)
        super().backward({"ce": losses["ce"]})
        for p, c in zip(trained, parallel.mean(general), strict=True):
            p.grad.copy_(aligned(p.grad, c, self.options.LAMBDA))
