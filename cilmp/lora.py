"""Low-rank changes of an attention's projections (LoRA; Hu et al., ICLR 2022, https://arxiv.org/abs/2106.09685).

Axes: r rank, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import Attention


class LowRank(nn.Module):
    """A change scale B A of a square matrix: nothing at first.  dropout: on the input of A alone."""

    def __init__(self, width: int, rank: int, scale: float, dropout: float):
        super().__init__()
        self.w_lora_A = nn.Parameter(torch.empty(rank, width))  # (r, D)
        self.w_lora_B = nn.Parameter(torch.zeros(width, rank))  # (D, r)
        nn.init.kaiming_uniform_(self.w_lora_A, a=math.sqrt(5))
        self.scale, self.dropout = scale, dropout

    def merged(self, weight: Tensor) -> Tensor:
        """weight (D, D) with the change."""
        return (weight + self.scale * (self.w_lora_B @ self.w_lora_A)).to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> what the change adds to the projection (..., D)."""
        x = F.dropout(x, self.dropout, self.training).to(self.w_lora_A.dtype)
        return self.scale * F.linear(F.linear(x, self.w_lora_A), self.w_lora_B)


class AdaptedLinear(LowRank):
    """In the place of an attention's output projection."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float):
        super().__init__(linear.in_features, rank, scale, dropout)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.linear(x, self.merged(self.weight), self.bias)
        y = F.linear(x, self.weight, self.bias)
        return y + super().forward(x).to(y.dtype)


class AdaptedAttention(Attention):
    """An attention's own weights, with changes of some parts of "qkvo"."""

    def __init__(self, attention: Attention, parts: str, rank: int, scale: float, dropout: float):
        super().__init__(attention.width, attention.heads)
        change = rank, scale, dropout
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = AdaptedLinear(attention.out_proj, *change) if "o" in parts else attention.out_proj
        self.changed = sorted(set(parts) - {"o"})
        for part in self.changed:
            self.add_module(f"{part}_proj", LowRank(self.width, *change))

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
