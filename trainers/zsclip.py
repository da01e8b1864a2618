"""Zero-shot CLIP: class names in hand-written sentences, nothing trained.

Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

from torch import Tensor

from cilmp.clip.model import CLIP
from cilmp.templates import ENSEMBLE, sentence_features, template_of, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.informed import Informed
from cilmp.trainers.engine.ranges import AT_LEAST_0, PREC
from cilmp.trainers.method import Method, Task, normalise
from dassl.engine import TRAINER_REGISTRY


class FixedText(Method):
    """Text features of one sentence a class, or of those the task brings, averaged; computed once."""

    kind, year = "zero-shot", 2021
    ensemble: tuple[str, ...] = ()  # sentences besides the data set's own

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        if task.sentences:
            print(f"Sentences of a class: {len(task.sentences[0])}")
            said = normalise(sentence_features(clip, task.sentences)).mean(1)  # (C, E)
            self.register_buffer("fixed", said[None], persistent=False)
            return
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
class ZeroshotCLIP2(Informed, ZeroshotCLIP):
    """Ensemble of templates; with N_PROMPTS, of sentences about each class instead."""

    method = EnsembleText
    defaults = ZeroshotCLIP.defaults | dict(N_PROMPTS=0, SENTENCES="")
    ranges = ZeroshotCLIP.ranges | dict(N_PROMPTS=AT_LEAST_0)
