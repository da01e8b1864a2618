"""CLIP-LoRA: low-rank changes of the attention's projections in both towers.

Zanella and Ben Ayed, CVPR-W 2024, https://arxiv.org/abs/2405.18541.  W + ALPHA / sqrt(R) B A for each of PARAMS in
every block of ENCODER, dropout on the input of B A alone.  Where the reference runs without dropout it merges B A into
W and takes it out again before backward, whose gradients then miss it; not here.  Its 100 is the backbone's own scale.

ITERATIONS (500 in the reference) are steps a shot, whatever the number of images: the epochs follow from them; 0 leaves
OPTIM.MAX_EPOCH.  The rate follows a cosine by epoch to 0 (the reference: by step, to 1e-6).

Axes: C classes, n tokens, r rank, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import Attention
from cilmp.clip.model import CLIP
from cilmp.templates import DEFAULT, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, FORWARD, PREC, Range, number, one_of
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY


class LowRank(nn.Module):
    """A change of a square matrix: nothing at first."""

    def __init__(self, width: int, options):
        super().__init__()
        self.w_lora_A = nn.Parameter(torch.empty(options.R, width))  # (r, D)
        self.w_lora_B = nn.Parameter(torch.zeros(width, options.R))  # (D, r)
        nn.init.kaiming_uniform_(self.w_lora_A, a=math.sqrt(5))
        self.scale, self.dropout = options.ALPHA / math.sqrt(options.R), options.DROPOUT

    def merged(self, weight: Tensor) -> Tensor:
        """weight (D, D) with the change."""
        return (weight + self.scale * (self.w_lora_B @ self.w_lora_A)).to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> what the change adds to the projection (..., D)."""
        x = F.dropout(x, self.dropout, self.training).to(self.w_lora_A.dtype)
        return self.scale * F.linear(F.linear(x, self.w_lora_A), self.w_lora_B)


class AdaptedLinear(LowRank):
    """In the place of an attention's output projection."""

    def __init__(self, linear: nn.Linear, options):
        super().__init__(linear.in_features, options)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.linear(x, self.merged(self.weight), self.bias)
        y = F.linear(x, self.weight, self.bias)
        return y + super().forward(x).to(y.dtype)


class AdaptedAttention(Attention):
    """An attention's own weights, with changes of some parts of "qkvo"."""

    def __init__(self, attention: Attention, options):
        super().__init__(attention.width, attention.heads)
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = AdaptedLinear(attention.out_proj, options) if "o" in options.PARAMS else attention.out_proj
        self.changed = {part for part in options.PARAMS if part != "o"}
        for part in sorted(self.changed):
            self.add_module(f"{part}_proj", LowRank(self.width, options))

    def changes(self, parts: str) -> list[LowRank | None]:
        return [self.get_submodule(f"{part}_proj") if part in self.changed else None for part in parts]

    def rows(self, parts: str) -> tuple[Tensor, Tensor]:
        weight, bias = super().rows(parts)
        pairs = zip(weight.split(self.width), self.changes(parts), strict=True)
        return torch.cat([change.merged(rows) if change else rows for rows, change in pairs]), bias

    def project(self, x: Tensor, parts: str = "qkv") -> Tensor:
        if not self.training:
            return super().project(x, parts)
        y = F.linear(x, *super().rows(parts))
        pairs = zip(y.split(self.width, dim=-1), self.changes(parts), strict=True)
        return torch.cat([part + change(x).to(y.dtype) if change else part for part, change in pairs], dim=-1)


class AdaptedTowers(Method):
    kind, year, compared, vit_only = "fine-tuning", 2024, False, True
    renames = (
        (r"^visual\.(.*\.attn)\.proj\.", r"clip.visual.\1.out_proj."),
        (r"^transformer\.(.*\.attn)\.proj\.", r"clip.text.transformer.\1.out_proj."),
        (r"^visual\.", "clip.visual."),
        (r"^transformer\.", "clip.text.transformer."),
    )

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        fixed = text_features(clip, task.classnames)[None] if options.ENCODER == "vision" else None
        self.register_buffer("fixed", fixed, persistent=False)  # (1, C, E) of a text tower that stays as it is
        sentences = [DEFAULT.format(name.replace("_", " ")) for name in task.classnames]
        self.register_buffer("tokens", clip.tokenize(sentences), persistent=False)
        towers = {"vision": [clip.visual], "text": [clip.text], "both": [clip.text, clip.visual]}[options.ENCODER]
        self.adapted: Sequence[AdaptedAttention] = []
        for block in (block for tower in towers for block in tower.transformer.blocks):
            block.attn = AdaptedAttention(block.attn, options)
            self.adapted = [*self.adapted, block.attn]

    def text(self, f: Tensor) -> Tensor:
        if self.fixed is not None:
            return self.fixed
        segment, row = self.clip.sentences(self.tokens)
        return self.encode_text([segment], row)  # (1, C, E)

    def train(self, mode: bool = True):
        super().train(mode)
        for attention in self.adapted:
            attention.train(mode)
        return self


@TRAINER_REGISTRY.register()
class CLIPLoRA(CLIPTrainer):
    method, folder = AdaptedTowers, "lora"
    defaults = dict(ENCODER="both", PARAMS=["q", "k", "v"], R=2, ALPHA=1.0, DROPOUT=0.25, ITERATIONS=0)
    defaults |= dict(PREC="amp", FORWARD="fast")
    ranges = dict(R=COUNT, ALPHA=AT_LEAST_0, DROPOUT=number(0, 0.999), ITERATIONS=AT_LEAST_0, PREC=PREC)
    ranges |= dict(FORWARD=FORWARD, ENCODER=one_of("vision", "text", "both"))
    ranges["PARAMS"] = Range(lambda parts: bool(parts) and set(parts) <= set("qkvo"), "some of q, k, v, o")

    def build_data_loader(self) -> None:
        super().build_data_loader()
        options, shots = self.cfg.TRAINER.CLIPLORA, self.cfg.DATASET.NUM_SHOTS
        if options.ITERATIONS and shots > 0 and hasattr(self, "train_loader_x"):
            self.max_epoch = math.ceil(options.ITERATIONS * shots / len(self.train_loader_x))
            print(f"{options.ITERATIONS} steps a shot: {self.max_epoch} epochs")
            self.cfg = self.cfg.clone()
            self.cfg.defrost()
            self.cfg.OPTIM.MAX_EPOCH = self.max_epoch
            self.cfg.freeze()
