"""TCP: CoOp's context, and tokens made from each class's text features, written into a deep layer.

Yao et al., CVPR 2024, https://arxiv.org/abs/2311.18231

    layer 0:   SOS  ctx                        name <what stands behind it in the template> EOS
    layer i:   SOS  meta_net(teacher(class))   ...

The reference needs Adam's epsilon at 1e-3, for its fp16 weights become NaN otherwise; here weights are fp32, and the
epsilon, which decides its numbers, is the option EPS.  Its W is a literal 8: a W in its yaml is not read.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import QuickGELU
from cilmp.clip.model import CLIP
from cilmp.templates import template_of
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, TEMPLATE, number, one_of
from cilmp.trainers.learners import TaughtContext, of_fitting_words, require_blocks
from cilmp.trainers.method import Task
from dassl.engine import TRAINER_REGISTRY


class ClassTokens(TaughtContext):
    year, compared = 2023, False

    def __init__(self, clip: CLIP, task: Task, options):
        template = options.TEMPLATE or template_of(task.dataset)
        super().__init__(clip, task, options, closing=template.partition("{}")[2])
        require_blocks("TRAINER.TCP.CLASS_DEPTH", options.CLASS_DEPTH, clip.text.depth - 1)
        hidden, size = clip.embed // 4, self.ctx.shape[-2] * clip.text.width
        self.meta_net = nn.Sequential(
            OrderedDict(linear1=nn.Linear(clip.embed, hidden), relu=QuickGELU(), linear2=nn.Linear(hidden, size))
        )
        self.depth, self.weight = options.CLASS_DEPTH, options.KG_WEIGHT

    def start(self, clip: CLIP, n: int, words: str) -> Tensor:
        return of_fitting_words(clip, n, words)

    def text(self, f: Tensor) -> Tensor:
        dtype = self.clip.dtype
        tokens = self.meta_net(self.teacher).unflatten(-1, (self.ctx.shape[-2], -1))  # (C, n, D)
        deep = [{}] * self.depth + [{self.prompts.index("ctx"): tokens[None].to(dtype)}]
        return self.encode_text(self.prompts(self.ctx.to(dtype)), self.prompts.eot, deep)  # (1, C, E)

    def losses(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        f, text = self.features(image)
        logits = self.clip.logits(f, text)
        return {"ce": F.cross_entropy(logits, label), "kg": self.weight * self.away(text)}, logits


@TRAINER_REGISTRY.register()
class TCP(CLIPTrainer):
    method, alias, unread = ClassTokens, ("TRAINER.COOP", "LOSS"), ("ALPHA", "GM", "NAME", "T", "LAMBDA", "W")
    means = {"CTX_INIT": {"True": "a photo of a", "False": ""}}
    defaults = dict(
        N_CTX=4,
        CSC=False,
        CTX_INIT="",
        CLASS_TOKEN_POSITION="end",
        CLASS_DEPTH=8,  # blocks before the tokens of the classes are written
        KG_WEIGHT=8.0,
        EPS=1e-3,  # of the optimiser
        TEMPLATE="",
        PREC="fp16",
    )
    ranges = dict(
        N_CTX=COUNT,
        CLASS_TOKEN_POSITION=one_of("end"),
        CLASS_DEPTH=COUNT,
        KG_WEIGHT=AT_LEAST_0,
        EPS=number(0, open_low=True),
        TEMPLATE=TEMPLATE,
        PREC=PREC,
    )

    def build_model(self) -> None:
        super().build_model()
        for group in self.optim.param_groups:
            group["eps"] = self.options.EPS
