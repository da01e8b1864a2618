"""Zero-shot CLIP: class names in hand-written sentences, nothing trained.

Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

from cilmp.templates import ENSEMBLE
from cilmp.trainers.engine.informed import Informed
from cilmp.trainers.engine.ranges import AT_LEAST_0, PREC
from cilmp.trainers.features import FixedText, FrozenTrainer
from dassl.engine import TRAINER_REGISTRY


class OneSentence(FixedText):
    kind, year = "zero-shot", 2021


class EnsembleText(OneSentence):
    ensemble, compared = ENSEMBLE, False


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(FrozenTrainer):
    method = OneSentence
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
