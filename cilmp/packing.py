"""Class names of different lengths end to end, without gaps, except inside attention.

Axes: C classes, m tokens of the longest, N tokens of all classes together, leading axis B images or 1.
A name of one word costs one word: what works on single tokens (projections, MLP) sees (B, N, D), attention sees
(B, C, m, D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, spread: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return x.index_select(1, spread)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad.index_select(1, *ctx.saved_tensors), None, None


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.gaps = x.shape[1]
        return x.index_select(1, kept)

    @staticmethod
    def backward(ctx, grad: Tensor):
        full = grad.new_zeros(grad.shape[0], ctx.gaps, *grad.shape[2:])
        return full.index_copy_(1, *ctx.saved_tensors, grad), None


@dataclass(frozen=True)
class Packing:
    """counts (C,); spread (C m,), each place's packed row (a gap repeats one); kept (N,), the place of each row."""

    counts: Tensor
    spread: Tensor
    kept: Tensor

    @classmethod
    def of(cls, counts: Tensor) -> Packing:
        most = int(counts.max())
        start = counts.cumsum(0) - counts
        place = torch.arange(most, device=counts.device)
        spread = start[:, None] + place.minimum(counts[:, None] - 1)
        kept = (place < counts[:, None]).flatten().nonzero()[:, 0]
        return cls(counts, spread.flatten(), kept)

    @property
    def most(self) -> int:
        return len(self.spread) // len(self.counts)

    @property
    def mask(self) -> Tensor:
        """(C, m) bool, False in the gaps."""
        return torch.arange(self.most, device=self.counts.device) < self.counts[:, None]

    def pad(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, m, D); what stands in the gaps must not be looked at, and gets no gradient."""
        return _Pad.apply(x, self.spread, self.kept).unflatten(1, (len(self.counts), -1))

    def pack(self, x: Tensor) -> Tensor:
        """(B, C, m, D) -> (B, N, D)."""
        return _Pack.apply(x.flatten(1, 2), self.kept)


@dataclass(frozen=True)
class Packed:
    """Tokens x (B or 1, N, D) of all classes."""

    x: Tensor
    packing: Packing

    def dense(self) -> Tensor:
        return self.packing.pad(self.x)

    def rows(self, index: Tensor) -> Tensor:
        """(B or 1, C, D): the token `index` (C,) of each class."""
        counts = self.packing.counts
        return self.x.index_select(1, counts.cumsum(0) - counts + index)
