"""BiomedCoOp: CoOp's context, held near what a language model says of each class.

Koleilat et al., CVPR 2025, https://arxiv.org/abs/2411.15232

Of a batch, those of the P sentences stay whose score s keeps within TAU standard deviations of the mean over sentences,
|s - mean(s)| <= TAU std(s).  The reference standardises by median and MAD before, which cancel, except that a MAD of 0
makes its loss NaN; here equal scores keep every sentence.

Axes: B images, C classes, P sentences of a class, E joint embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.prompts import POSITIONS
from cilmp.templates import sentence_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.config import classes_of
from cilmp.trainers.engine.informed import Informed
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, number, one_of
from cilmp.trainers.learners import Context, of_fitting_words
from cilmp.trainers.method import Task, normalise
from dassl.engine import TRAINER_REGISTRY


class InformedContext(Context):
    year, compared = 2024, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        teacher = sentence_features(clip, task.sentences) if task.sentences else None  # (C, P, E)
        self.register_buffer("teacher", teacher, persistent=False)
        self.sccm, self.kdsp, self.tau = options.SCCM_LAMBDA, options.KDSP_LAMBDA, options.TAU

    def start(self, clip: CLIP, n: int, words: str) -> Tensor:
        return of_fitting_words(clip, n, words)

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        f, text = self.features(image)
        logits = self.clip.logits(f, text)
        said = normalise(self.teacher)  # (C, P, E)
        with torch.no_grad():
            kept = self.kept(f, said).to(said.dtype)  # (P,)
            chosen = torch.einsum("cpe,p->ce", said, kept / kept.sum())
            teacher = self.clip.logits(f, chosen).log_softmax(-1)
        kl = F.kl_div(logits.log_softmax(-1), teacher, reduction="sum", log_target=True) / logits.numel()
        near = F.mse_loss(normalise(text[0]), normalise(said.mean(1)))
        return {"ce": F.cross_entropy(logits, label), "sccm": self.sccm * near, "kdsp": self.kdsp * kl}, logits

    def kept(self, f: Tensor, said: Tensor) -> Tensor:
        """(P,) bool: sentences whose largest logit over the classes, averaged over the batch, is no outlier."""
        cosine = torch.einsum("be,cpe->bcp", normalise(f).to(said.dtype), said)
        s = (self.clip.logit_scale.exp() * cosine).amax(1).mean(0)
        if len(s) == 1:
            return s == s
        off = (s - s.mean()).to(torch.promote_types(s.dtype, torch.float32))  # whose square a half may not hold
        # the standard deviation of these very numbers: where s is one number up to rounding, s.std() may be 0 and none
        # of them within it
        return off.abs() <= self.tau * (off.square().sum() / (len(s) - 1)).sqrt()


@TRAINER_REGISTRY.register()
class BiomedCoOp(Informed, CLIPTrainer):
    method = InformedContext
    defaults = dict(
        N_CTX=4,
        CSC=False,
        CTX_INIT="a photo of a",
        CLASS_TOKEN_POSITION="end",
        PREC="fp32",
        SCCM_LAMBDA=1.0,
        KDSP_LAMBDA=1.0,
        TAU=1.5,
        N_PROMPTS=50,
        SENTENCES="",
    )
    ranges = dict(
        N_CTX=COUNT,
        CLASS_TOKEN_POSITION=one_of(*POSITIONS),
        PREC=PREC,
        SCCM_LAMBDA=AT_LEAST_0,
        KDSP_LAMBDA=AT_LEAST_0,
        TAU=number(1),  # below, no sentence may be left
        N_PROMPTS=COUNT,
    )

    missing: UserError | None = None

    def task(self) -> Task:
        """A test needs no sentences: prompts learned with some are tested on classes that have none."""
        try:
            return super().task()
        except UserError as missing:
            self.missing = missing
            return Task(list(self.classnames), classes_of(self.cfg))

    def before_train(self) -> None:
        if self.missing:
            raise self.missing
        super().before_train()
