"""KgCoOp: CoOp's context, kept near a hand-written sentence.  Yao et al., CVPR 2023, https://arxiv.org/abs/2303.13283

The reference's teacher is half precision whatever PREC says, and any CTX_INIT means "a photo of a"; here the teacher
has the run's precision and the words are read.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.prompts import POSITIONS
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, TEMPLATE, one_of
from cilmp.trainers.learners import TaughtContext
from cilmp.trainers.method import Task
from dassl.engine import TRAINER_REGISTRY


class NearContext(TaughtContext):
    year, compared = 2023, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        self.weight = options.W

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        f, text = self.features(image)
        logits = self.clip.logits(f, text)
        return {"ce": F.cross_entropy(logits, label), "kg": self.weight * self.away(text)}, logits


@TRAINER_REGISTRY.register()
class KgCoOp(CLIPTrainer):
    method, alias, unread = NearContext, ("TRAINER.COOP",), ("ALPHA",)
    means = {"CTX_INIT": {"True": "a photo of a", "False": ""}}
    defaults = dict(
        N_CTX=4, CSC=False, CTX_INIT="a photo of a", CLASS_TOKEN_POSITION="end", W=8.0, TEMPLATE="", PREC="fp16"
    )
    ranges = dict(N_CTX=COUNT, CLASS_TOKEN_POSITION=one_of(*POSITIONS), W=AT_LEAST_0, TEMPLATE=TEMPLATE, PREC=PREC)
