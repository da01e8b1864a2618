"""IVLP: deep prompts in both towers, each on its own; the baseline of MaPLe and PromptSRC.

Khattak et al., CVPR 2023, https://arxiv.org/abs/2210.03117
"""

from __future__ import annotations

from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC
from cilmp.trainers.learners import DeepPrompts
from dassl.engine import TRAINER_REGISTRY


class IndependentPrompts(DeepPrompts):
    year, compared = 2022, False


@TRAINER_REGISTRY.register()
class IVLP(CLIPTrainer):
    """N_CTX_VISION 0 leaves the image tower as it is."""

    method, folder = IndependentPrompts, "VLPromptLearner"
    defaults = dict(
        N_CTX_VISION=2,
        N_CTX_TEXT=2,
        CTX_INIT="a photo of a",
        PREC="fp16",
        PROMPT_DEPTH_VISION=9,
        PROMPT_DEPTH_TEXT=9,
    )
    ranges = dict(
        N_CTX_VISION=AT_LEAST_0,
        N_CTX_TEXT=COUNT,
        PREC=PREC,
        PROMPT_DEPTH_VISION=AT_LEAST_0,
        PROMPT_DEPTH_TEXT=COUNT,
    )
