"""Class names of different lengths end to end, without gaps, except inside attention.

Axes: C classes, m tokens of the longest name, N tokens of all names together, B images or 1, P parts (queries, keys,
values), H heads, e width of a head.
A name of one word costs one word: what works on single tokens (projections, MLP) sees (B, N, D), attention sees
(B, C, m, D).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Packing(nn.Module):
    """Where the tokens of each class lie."""

    start: Tensor  # (C,) the row of a class's first token
    count: Tensor  # (C,) how many it has
    mask: Tensor  # (C, m) bool, False in the gaps
    row: Tensor  # (C * m,) the row of each place; a gap repeats the class's last one
    kept: Tensor  # (N,) the place of each row

    def __init__(self, counts: Tensor):
        """counts (C,), tokens of each class."""
        super().__init__()
        self.most = int(counts.max())
        start, place = counts.cumsum(0) - counts, torch.arange(self.most)
        mask = place < counts[:, None]
        row = (start[:, None] + place.minimum(counts[:, None] - 1)).flatten()
        for name, buffer in dict(
            start=start, count=counts, mask=mask, row=row, kept=mask.flatten().nonzero()[:, 0]
        ).items():
            self.register_buffer(name, buffer, persistent=False)

    def pad(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, m, D); what stands in the gaps must not be looked at."""
        return x.index_select(1, self.row).unflatten(1, (-1, self.most))

    def pack(self, x: Tensor) -> Tensor:
        """(B, C, m, D) -> (B, N, D)."""
        return x.flatten(1, 2).index_select(1, self.kept)

    def pick(self, x: Tensor, index: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, D): the token `index` (C,) of each class."""
        return x.index_select(1, self.start + index)

    def split(self, x: Tensor) -> Tensor:
        """As `pad`, heads first: (B, N, P, H, e) -> (P, H, B, C, m, e); the gaps get no gradient."""
        return Split.apply(x, self.row, self.kept).unflatten(-2, (-1, self.most))

    def join(self, x: Tensor) -> Tensor:
        """The way back: (H, B, C, m, e) -> (B, N, H, e)."""
        return Join.apply(x.flatten(-3, -2), self.row, self.kept, self.mask)


class Split(torch.autograd.Function):
    """One gather forward, and one backward, where a repeated row would make autograd add one row after another."""

    @staticmethod
    def forward(ctx, x: Tensor, row: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return x.movedim((-3, -2), (0, 1)).index_select(-2, row)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad.movedim((0, 1), (-3, -2)).index_select(1, *ctx.saved_tensors), None, None


class Join(torch.autograd.Function):
    """The same of the way back: backward puts zeros into the gaps."""

    @staticmethod
    def forward(ctx, x: Tensor, row: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(row, mask)
        return x.movedim(0, -2).index_select(1, kept)

    @staticmethod
    def backward(ctx, grad: Tensor):
        row, mask = ctx.saved_tensors
        return grad.movedim(-2, 0).index_select(-2, row).mul_(mask.view(-1, 1)), None, None, None
