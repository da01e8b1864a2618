"""Full fine-tuning of the image encoder under a linear head: the upper reference, at the price of every weight.

Head and normalisation as in WiSE-FT, Wortsman et al., CVPR 2022, https://arxiv.org/abs/2109.01903: the head starts as
the zero-shot classifier.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip import CLIP
from cilmp.errors import UserError
from cilmp.trainers.base import Prompted, PromptTrainer, normalise
from cilmp.trainers.zsclip import DEFAULT, ensemble
from dassl.engine import TRAINER_REGISTRY


class HeadOverEncoder(Prompted):
    def __init__(self, clip: CLIP, classnames: list[str], options):
        super().__init__(clip)
        text = F.normalize(ensemble(clip, classnames, [DEFAULT]), dim=-1)
        self.head = nn.Linear(clip.embed, len(classnames))
        self.head.weight.data.copy_(clip.logit_scale.exp() * text)
        nn.init.zeros_(self.head.bias)
        clip.visual.requires_grad_(True)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(normalise(self.image(image)))

    infer = forward


@TRAINER_REGISTRY.register()
class FullFineTune(PromptTrainer):
    method, folder = HeadOverEncoder, "model"
    defaults = dict(PREC="amp")

    def settle_precision(self, precision: str) -> str:
        if precision in ("fp16", "bf16"):
            raise UserError(
                f"TRAINER.FULLFINETUNE.PREC {precision} would train half-precision weights: use amp or fp32."
            )
        return super().settle_precision(precision)
