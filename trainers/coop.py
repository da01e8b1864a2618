"""CoOp: learned context words before every class name.  Zhou et al., IJCV 2022, https://arxiv.org/abs/2109.01134"""

from __future__ import annotations

from torch import Tensor, nn

from cilmp.clip.model import CLIP
from cilmp.prompts import POSITIONS, ClassPrompts, context, length
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import COUNT, PREC, one_of
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class Context(Method):
    year = 2021

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        words = options.CTX_INIT.replace("_", " ")
        n = length(clip, words) if words else options.N_CTX  # the words decide
        ctx = context(clip, n, words)  # (n, D)
        if options.CSC and not words:
            ctx = ctx.new_empty(len(task.classnames), *ctx.shape).normal_(std=0.02)  # (C, n, D)
        self.ctx = nn.Parameter(ctx.float())
        self.prompts = ClassPrompts(clip, task.classnames, n, words, position=options.CLASS_TOKEN_POSITION)

    def text(self, f: Tensor) -> Tensor:
        return self.encode_text(self.prompts(self.ctx.to(self.clip.dtype)), self.prompts.eot)  # (1, C, E)


@TRAINER_REGISTRY.register()
class CoOp(CLIPTrainer):
    method = Context
    defaults = dict(N_CTX=16, CSC=False, CTX_INIT="", PREC="fp16", CLASS_TOKEN_POSITION="end")
    ranges = dict(N_CTX=COUNT, PREC=PREC, CLASS_TOKEN_POSITION=one_of(*POSITIONS))
