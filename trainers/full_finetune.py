"""Full fine-tuning of the image encoder under a linear head: the upper reference, at the price of every weight.

Head and normalisation as in WiSE-FT, Wortsman et al., CVPR 2022, https://arxiv.org/abs/2109.01903: the head starts as
the zero-shot classifier.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.templates import text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import PREC
from cilmp.trainers.method import CLOSED, Method, Task, normalise
from dassl.engine import TRAINER_REGISTRY


class HeadOverEncoder(Method):
    kind, year, protocols, compared = "fine-tuning", 2021, CLOSED, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        text = F.normalize(text_features(clip, task.classnames), dim=-1)
        self.head = nn.Linear(clip.embed, len(task.classnames))
        self.head.weight.data.copy_(clip.logit_scale.exp() * text)
        nn.init.zeros_(self.head.bias)
        clip.visual.requires_grad_(True)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(normalise(self.image(image)))

    infer = forward


@TRAINER_REGISTRY.register()
class FullFineTune(CLIPTrainer):
    method, folder = HeadOverEncoder, "model"
    defaults = dict(PREC="amp")
    ranges = dict(PREC=PREC)

    def settle_precision(self, precision: str) -> str:
        if precision in ("fp16", "bf16"):
            raise UserError(
                f"TRAINER.FULLFINETUNE.PREC {precision} would train half-precision weights: use amp or fp32."
            )
        return super().settle_precision(precision)
