"""Class names of different lengths end to end, without gaps, except inside attention.

Axes: C classes, m tokens of a name, N tokens of all classes together, leading axis B images or 1 (or heads and images).
A name of one word costs one word: what works on single tokens (projections, MLP) sees (B, N, D); attention sees
groups (B, C_g, m_g, D) of classes with names of about the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GROUP_TOKENS = 128  # a group of fewer tokens is not worth the launches of its kernels: longer names join it


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


class Layout(nn.Module):
    """Rows (B, N, D) and places (B, C, m, D) of some classes, class c at rows start[c] and counts[c] further on."""

    def __init__(self, start: Tensor, counts: Tensor):
        super().__init__()
        self.classes, self.most = len(counts), int(counts.max())
        self.full = bool((counts == self.most).all() and (start == torch.arange(self.classes) * self.most).all())
        place = torch.arange(self.most)
        real = place < counts[:, None]
        spread = (start[:, None] + place.minimum(counts[:, None] - 1)).flatten()  # a gap repeats a row
        kept = real.flatten().nonzero()[:, 0]
        self.register_buffer("spread", spread, persistent=False)  # the row of each place
        self.register_buffer("kept", kept[spread[kept].argsort()], persistent=False)  # the place of each row

    def pad(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, m, D); what stands in the gaps must not be looked at, and gets no gradient."""
        if not self.full:
            x = _Pad.apply(x, self.spread, self.kept)
        return x.unflatten(1, (self.classes, self.most))

    def pack(self, x: Tensor) -> Tensor:
        """(B, C, m, D) -> (B, N, D)."""
        x = x.flatten(1, 2)
        return x if self.full else _Pack.apply(x, self.kept)


class Packing(nn.Module):
    """Where the tokens of each class lie: the shortest names first, so that a group's lie next to each other."""

    def __init__(self, counts: Tensor):
        """counts (C,), tokens of each class."""
        super().__init__()
        order = counts.argsort(stable=True)
        lengths, back = counts[order], order.argsort()
        start = (lengths.cumsum(0) - lengths)[back]  # (C,)
        for name, buffer in dict(counts=counts, start=start, order=order, back=back).items():
            self.register_buffer(name, buffer, persistent=False)
        self.whole = Layout(start, counts)
        self.sizes, tokens = [0], 0  # classes of each group
        for i, n in enumerate(lengths.tolist()):
            if tokens >= GROUP_TOKENS and n > lengths[i - 1]:
                self.sizes.append(0)
                tokens = 0
            self.sizes[-1] += 1
            tokens += n
        parts = order.split(self.sizes)
        self.rows = [int(counts[part].sum()) for part in parts]  # tokens of each group
        self.groups = nn.ModuleList(Layout(start[part] - start[part[0]], counts[part]) for part in parts)

    @property
    def mask(self) -> Tensor:
        """(C, m) bool, False in the gaps."""
        return torch.arange(self.whole.most, device=self.counts.device) < self.counts[:, None]

    @property
    def members(self) -> Sequence[Tensor]:
        """The classes of each group."""
        return self.order.split(self.sizes)

    def split(self, x: Tensor) -> list[Tensor]:
        """(B, N, D) -> each group's (B, C_g, m_g, D)."""
        parts = x.split(self.rows, dim=1) if len(self.rows) > 1 else [x]  # a split of one would copy its gradient
        return [group.pad(part) for group, part in zip(self.groups, parts, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Each group's (B, C_g, m_g, D) -> (B, N, D)."""
        parts = [group.pack(part) for group, part in zip(self.groups, parts, strict=True)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class Packed:
    """Tokens x (B or 1, N, D) of all classes."""

    x: Tensor
    packing: Packing

    def dense(self) -> Tensor:
        return self.packing.whole.pad(self.x)

    def rows(self, index: Tensor) -> Tensor:
        """(B or 1, C, D): the token `index` (C,) of each class."""
        return self.x.index_select(1, self.packing.start + index)
