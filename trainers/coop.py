"""CoOp: learned context words before every class name.  Zhou et al., IJCV 2022, https://arxiv.org/abs/2109.01134"""

from __future__ import annotations

from cilmp.prompts import POSITIONS
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import COUNT, PREC, one_of
from cilmp.trainers.learners import Context
from dassl.engine import TRAINER_REGISTRY


class LearnedContext(Context):
    year = 2021


@TRAINER_REGISTRY.register()
class CoOp(CLIPTrainer):
    method = LearnedContext
    defaults = dict(N_CTX=16, CSC=False, CTX_INIT="", PREC="fp16", CLASS_TOKEN_POSITION="end")
    ranges = dict(N_CTX=COUNT, PREC=PREC, CLASS_TOKEN_POSITION=one_of(*POSITIONS))
