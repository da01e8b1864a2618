"""PromptSRC: deep prompts in both towers, held near the frozen CLIP in text, image and logits, averaged over epochs.

Khattak et al., ICCV 2023, https://arxiv.org/abs/2307.06948

The reference averages frozen weights too and loses the running sum where a run is resumed; here what is learned is
averaged, and the sum is saved with the run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.templates import SIXTY, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.averaging import Averaging
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, TEMPLATES, number
from cilmp.trainers.learners import DeepPrompts
from cilmp.trainers.method import Task, normalise
from dassl.engine import TRAINER_REGISTRY


class RegulatedPrompts(DeepPrompts):
    year, compared = 2023, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        templates = options.TEMPLATES or SIXTY
        teacher = text_features(clip, task.classnames, templates, unit=False)  # (C, E), as the reference averages
        self.register_buffer("teacher", teacher, persistent=False)
        self.text_weight, self.image_weight = options.TEXT_LOSS_WEIGHT, options.IMAGE_LOSS_WEIGHT

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        f, text = self.features(image)
        logits = self.clip.logits(f, text)
        with torch.no_grad():
            frozen = self.clip.encode_image(image)
            teacher = self.clip.logits(frozen, self.teacher)
        kl = F.kl_div(logits.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
        terms = {
            "ce": F.cross_entropy(logits, label),
            "text": self.text_weight * F.l1_loss(normalise(text[0]), normalise(self.teacher)),
            "image": self.image_weight * F.l1_loss(normalise(f), normalise(frozen)),
            "kl": kl / logits.numel(),
        }
        return terms, logits


@TRAINER_REGISTRY.register()
class PromptSRC(Averaging, CLIPTrainer):
    method, folder = RegulatedPrompts, "VLPromptLearner"
    defaults = dict(
        N_CTX_VISION=4,
        N_CTX_TEXT=4,
        CTX_INIT="a photo of a",
        PREC="fp16",
        PROMPT_DEPTH_VISION=9,
        PROMPT_DEPTH_TEXT=9,
        TEXT_LOSS_WEIGHT=25.0,
        IMAGE_LOSS_WEIGHT=10.0,
        GPA_MEAN=15,
        GPA_STD=1,
        TEMPLATES=(),  # of the teacher; none: the reference's sixty
    )
    ranges = dict(
        N_CTX_VISION=COUNT,
        N_CTX_TEXT=COUNT,
        PREC=PREC,
        PROMPT_DEPTH_VISION=COUNT,
        PROMPT_DEPTH_TEXT=COUNT,
        TEXT_LOSS_WEIGHT=AT_LEAST_0,
        IMAGE_LOSS_WEIGHT=AT_LEAST_0,
        GPA_MEAN=number(),
        GPA_STD=number(0, open_low=True),
        TEMPLATES=TEMPLATES,
    )
