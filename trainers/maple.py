"""MaPLe: deep text prompts, and image prompts projected from them.

Khattak et al., CVPR 2023, https://arxiv.org/abs/2210.03117
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cilmp.clip.model import CLIP
from cilmp.prompts import ClassPrompts, context, lead
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import COUNT, PREC
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class CoupledPrompts(Method):
    year, vit_only = 2022, True

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        n, depth = options.N_CTX, options.PROMPT_DEPTH
        words = options.CTX_INIT.replace("_", " ") if n <= 4 else ""
        text, image = clip.text.width, clip.visual.width
        self.ctx = nn.Parameter(context(clip, n, words).float())
        self.proj = nn.Linear(text, image)
        deep = range(depth - 1)
        self.compound_prompts_text = nn.ParameterList(torch.randn(n, text) * 0.02 for _ in deep)
        layer = nn.Linear(text, image)
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(layer) for _ in deep)
        self.prompts = ClassPrompts(clip, task.classnames, n, words)

    def image(self, image: Tensor) -> Tensor:
        projections = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        prompts = [self.proj(self.ctx), *(project(ctx) for project, ctx in projections)]
        return self.clip.encode_image(image, prompts, self.literal)

    def text(self, f: Tensor) -> Tensor:
        dtype, ctx_index = self.clip.dtype, self.prompts.index("ctx")
        deep = [{}, *({ctx_index: lead(ctx.to(dtype))} for ctx in self.compound_prompts_text)]
        return self.encode_text(self.prompts(self.ctx.to(dtype)), self.prompts.eot, deep)  # (1, C, E)


@TRAINER_REGISTRY.register()
class MaPLe(CLIPTrainer):
    method, folder = CoupledPrompts, "MultiModalPromptLearner"
    defaults = dict(N_CTX=2, CTX_INIT="a photo of a", PREC="fp16", PROMPT_DEPTH=9)
    ranges = dict(N_CTX=COUNT, PREC=PREC, PROMPT_DEPTH=COUNT)
