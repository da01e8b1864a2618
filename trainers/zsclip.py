"""Zero-shot CLIP: class names in hand-written sentences, nothing trained.

Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

from torch import Tensor

from cilmp.clip.model import CLIP
from cilmp.templates import ENSEMBLE, template_of, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import PREC
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class FixedText(Method):
    """Text features of one sentence a class, computed once."""

    kind, year = "zero-shot", 2021
    ensemble: tuple[str, ...] = ()  # sentences besides the data set's own

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        templates = [*self.ensemble, template_of(task.dataset)]
        print(f"Templates: {templates}")
        self.register_buffer("fixed", text_features(clip, task.classnames, templates)[None], persistent=False)

    def text(self, f: Tensor) -> Tensor:
        return self.fixed  # (1, C, E)


class EnsembleText(FixedText):
    ensemble, compared = ENSEMBLE, False


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(CLIPTrainer):
    method = FixedText
    defaults = dict(PREC="fp16")
    ranges = dict(PREC=PREC)

    def train(self) -> None:
        print("Nothing to train: testing at once")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Ensemble of templates."""

    method = EnsembleText
