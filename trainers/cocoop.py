"""CoCoOp: CoOp's context, moved by the image.  Zhou et al., CVPR 2022, https://arxiv.org/abs/2203.05557"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cilmp.clip import CLIP
from cilmp.prompts import ClassPrompts, context
from cilmp.trainers.base import Prompted, PromptTrainer
from dassl.engine import TRAINER_REGISTRY


class ConditionalContext(Prompted):
    conditional = True

    def __init__(self, clip: CLIP, classnames: list[str], options):
        super().__init__(clip)
        words = options.CTX_INIT.replace("_", " ")
        n = len(clip.tokenize([words], cut=False)[0]) - 2 if words else options.N_CTX
        self.ctx = nn.Parameter(context(clip, n, words).float())
        width, embed = clip.text.width, clip.embed
        self.meta_net = nn.Sequential(
            OrderedDict(linear1=nn.Linear(embed, embed // 16), relu=nn.ReLU(), linear2=nn.Linear(embed // 16, width))
        )
        self.prompts = ClassPrompts(clip, classnames, n, words)

    def text(self, f: Tensor) -> Tensor:
        ctx = self.ctx + self.meta_net(f)[:, None, None]  # (B, 1, n, D): one context for all classes of an image
        return self.encode_text(self.prompts(ctx.to(self.clip.dtype)), self.prompts.eot)  # (B, C, E)


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    method = ConditionalContext
    defaults = dict(N_CTX=16, CTX_INIT="", PREC="fp16")
