"""CLIP-Adapter: two small layers change the image feature.  Gao et al., IJCV 2024, https://arxiv.org/abs/2110.04544

f' = RATIO A(f) + (1 - RATIO) f, A = ReLU(W2 ReLU(W1 f)).  NORMALISED is the variant of LP++'s and BiomedCoOp's
programs: A reads the normalised f, and f' is used at the length it has.  Epoch e sees augmented view e mod VIEWS; the
reference, which draws a view anew in every epoch, is met with as many views as epochs.

Axes: B batch, C classes, E joint embedding.
"""

from __future__ import annotations

from torch import Tensor, nn

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import COUNT, FRACTION, PREC
from cilmp.trainers.features import FixedText, FrozenTrainer
from cilmp.trainers.method import Task, normalise
from dassl.engine import TRAINER_REGISTRY


class FeatureAdapter(FixedText):
    kind, year, compared = "adapter", 2021, False
    renames = ((r"^adapter\.", ""),)

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        self.ratio, self.normalised = options.RATIO, options.NORMALISED
        inner = max(1, clip.embed // options.REDUCTION)
        layers = nn.Linear(clip.embed, inner, bias=False), nn.Linear(inner, clip.embed, bias=False)
        self.fc = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        f, text = self.features(image)
        f = normalise(f) if self.normalised else f
        mixed = self.ratio * self.fc(f) + (1 - self.ratio) * f  # (B, E)
        logits = self.clip.logits(mixed, text)
        return logits * mixed.norm(dim=-1, keepdim=True) if self.normalised else logits


@TRAINER_REGISTRY.register()
class CLIPAdapter(FrozenTrainer):
    method, folder = FeatureAdapter, "clip_adapter"
    defaults = dict(VIEWS=10, RATIO=0.2, REDUCTION=4, NORMALISED=False, PREC="fp32")
    ranges = dict(VIEWS=COUNT, RATIO=FRACTION, REDUCTION=COUNT, PREC=PREC)
