"""VPT: learned tokens in the image tower alone.  Jia et al., ECCV 2022, https://arxiv.org/abs/2203.12119

As in MaPLe's comparison (https://arxiv.org/abs/2210.03117): the text is "a photo of a {}." for every data set.
"""

from __future__ import annotations

from torch import Tensor

from cilmp.clip.model import CLIP
from cilmp.templates import text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import COUNT, PREC
from cilmp.trainers.learners import DeepPrompts, vision_prompts
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class VisionPrompts(Method):
    year, compared, vit_only, renames = 2022, False, True, DeepPrompts.renames

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        self.vision = vision_prompts(clip, options.N_CTX_VISION, options.PROMPT_DEPTH_VISION)
        self.register_buffer("fixed", text_features(clip, task.classnames)[None], persistent=False)

    def image(self, image: Tensor) -> Tensor:
        return self.clip.encode_image(image, list(self.vision), self.literal)

    def text(self, f: Tensor) -> Tensor:
        return self.fixed  # (1, C, E)


@TRAINER_REGISTRY.register()
class VPT(CLIPTrainer):
    method, unread = VisionPrompts, ("CTX_INIT",)
    defaults = dict(N_CTX_VISION=8, PROMPT_DEPTH_VISION=12, PREC="fp16")
    ranges = dict(N_CTX_VISION=COUNT, PROMPT_DEPTH_VISION=COUNT, PREC=PREC)
