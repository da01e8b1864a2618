"""CoCoOp: CoOp's context, moved by the image.  Zhou et al., CVPR 2022, https://arxiv.org/abs/2203.05557"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cilmp.clip.model import CLIP
from cilmp.prompts import ClassPrompts, context, length
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import COUNT, PREC
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class ConditionalContext(Method):
    year, conditional = 2022, True

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        words = options.CTX_INIT.replace("_", " ")
        n = length(clip, words) if words else options.N_CTX
        self.ctx = nn.Parameter(context(clip, n, words).float())
        width, embed = clip.text.width, clip.embed
        self.meta_net = nn.Sequential(
            OrderedDict(linear1=nn.Linear(embed, embed // 16), relu=nn.ReLU(), linear2=nn.Linear(embed // 16, width))
        )
        self.prompts = ClassPrompts(clip, task.classnames, n, words)

    def text(self, f: Tensor) -> Tensor:
        ctx = self.ctx + self.meta_net(f)[:, None, None]  # (B, 1, n, D): one context for all classes of an image
        return self.encode_text(self.prompts(ctx.to(self.clip.dtype)), self.prompts.eot)  # (B, C, E)


@TRAINER_REGISTRY.register()
class CoCoOp(CLIPTrainer):
    method = ConditionalContext
    defaults = dict(N_CTX=16, CTX_INIT="", PREC="fp16")
    ranges = dict(N_CTX=COUNT, PREC=PREC)
