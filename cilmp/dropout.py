"""Dropout's masks, kept as a byte an entry and met by two products where they are drawn.

Axes: K layers, T tokens, d width, a and p rows of two matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

PARTS = 16  # of a sum over d


def draw(shape: Sequence[int], share: float, device: torch.device) -> Tensor:
    """bool, True with probability `share`."""
    if device.type != "cpu":
        return torch.rand(shape, device=device) < share
    # four draws of 16 bits from each random number: a CPU's bernoulli_ takes as long as the products of the mask
    size = math.prod(shape)
    bits = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return (bits[:size] < round(share * 2**16) - 2**15).view(shape)


class Dropped(torch.autograd.Function):
    """(keep * h) A^T (K, T, a) and keep P^T (K, T, p) for a mask drawn here, a byte an entry held for backward.

    h (T, d), A (K, a, d), P (K, p, d); keep (K, T, d) is 0 or 1.  h gets no gradient.
    """

    @staticmethod
    def forward(ctx, h: Tensor, A: Tensor, P: Tensor, share: float) -> tuple[Tensor, Tensor]:
        mask = draw((len(A), *h.shape), share, h.device)
        ctx.save_for_backward(h, mask)
        own, fold = [], []
        for some, a, p in zip(*pieces(mask, A, P), strict=True):
            keep = some.to(h.dtype)
            own.append(inner(h * keep, a))
            fold.append(inner(keep, p))
        return torch.cat(own), torch.cat(fold)

    @staticmethod
    def backward(ctx, for_own: Tensor, for_fold: Tensor):
        h, mask = ctx.saved_tensors
        A, P = [], []
        for some, own, fold in zip(*pieces(mask, for_own, for_fold), strict=True):
            keep = some.to(h.dtype)
            A.append(own.mT @ (h * keep))
            P.append(fold.mT @ keep)
        return None, torch.cat(A), torch.cat(P), None


def inner(x: Tensor, y: Tensor) -> Tensor:
    """x (K, T, d) with y (K, p, d) -> (K, T, p).

    So few sums of so many terms leave most of a GPU idle: there they are summed in parts.
    """
    parts = 1 if x.device.type == "cpu" or x.shape[-1] % PARTS else PARTS
    x, y = (t.unflatten(-1, (parts, -1)).movedim(-2, 1) for t in (x, y))
    return (x @ y.mT).sum(1) if parts > 1 else (x @ y.mT)[:, 0]


def pieces(*tensors: Tensor) -> list[Sequence[Tensor]]:
    """Each tensor (K, ...) in pieces to work through: a CPU keeps one layer in its caches, a GPU launches once."""
    step = 1 if tensors[0].device.type == "cpu" else len(tensors[0])
    return [tensor.split(step) for tensor in tensors]
