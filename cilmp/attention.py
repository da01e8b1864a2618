"""What a query may look at: keys and values of segments, each kept at the smallest size that holds them.

Axes: B images, C classes, q queries, n tokens of a segment, H heads, e width of a head, D = H * e, r rank.
Leading axes are (B or 1, C or 1) throughout; torch.einsum broadcasts the ones without copying.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.devices import exactly
from cilmp.packing import Packed


@dataclass(frozen=True)
class LowRank:
    """Tokens that live in a low-rank subspace: `z @ basis.T + offset`, (B, C, n, D), which is never built.

    z (B, C, n, r); basis (D, r); offset (1, C or 1, n, D) or None, the positional embedding at the input layer.
    """

    z: Tensor
    basis: Tensor
    offset: Tensor | None = None

    def dense(self) -> Tensor:
        """(B, C, n, D), for a layer that lets the tokens pass on."""
        x = self.z @ self.basis.T
        return x if self.offset is None else x + self.offset


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring positions of the sequence, with the leading axes it really depends on.

    x: tokens (B or 1, C or 1, n, D), dense, low rank or packed; mask (C, n) bool, False where a class has no token.
    """

    x: Tensor | LowRank | Packed
    mask: Tensor | None = None

    def dense(self) -> Tensor:
        return self.x if isinstance(self.x, Tensor) else self.x.dense()

    @property
    def hidden(self) -> Tensor | None:
        """(C, 1, n) bool, True in the gaps."""
        return None if self.mask is None else ~self.mask[:, None]


class DenseKeys:
    """Keys and values as they are, k and v (B or 1, C or 1, n, H, e)."""

    def __init__(self, k: Tensor, v: Tensor, hidden: Tensor | None = None):
        """hidden: bool, broadcastable to (C, q, n), True where a query must not look."""
        self.k, self.v, self.hidden = k, v, hidden
        self.lead = k.shape[:2]

    def of(self, classes: Tensor) -> DenseKeys:
        return DenseKeys(take(self.k, 1, classes), take(self.v, 1, classes), take(self.hidden, 0, classes))

    def scores(self, q: Tensor) -> Tensor:
        """q (H, B, C, q, e) -> (H, B, C, q, n)."""
        k = self.k * q.shape[-1] ** -0.5  # before the product, which could overflow half precision
        return torch.einsum("hbcqe,bcnhe->hbcqn", q, k)

    def mix(self, p: Tensor) -> Tensor:
        """p (H, B, C, q, n) -> (H, B, C, q, e)."""
        return torch.einsum("hbcqn,bcnhe->hbcqe", p, self.v)


class LowRankKeys:
    """Keys and values of low-rank tokens behind a LayerNorm, without leaving the low rank.

    With x = U z + o and U, o centred over D, LayerNorm(x) = g * (U z + o) / std + beta, where std is the root of a
    quadratic form in z.  So k = M (z / std) + K (o / std) + c with M = W_k diag(g) U of r columns: a query meets z
    through M^T q, r numbers a head instead of e.
    """

    def __init__(self, tokens: LowRank, ln: torch.nn.LayerNorm, weight: Tensor, bias: Tensor, heads: int, hidden=None):
        """weight (2 D, D), bias (2 D,): the key and value rows of the attention's input projection."""
        with exactly(tokens.z.device):  # a quadratic form wants full precision
            exact, dtype = ln.weight.dtype, weight.dtype
            z, basis = tokens.z.to(exact), tokens.basis.to(exact)
            weight, bias = weight.to(exact), bias.to(exact)
            width = basis.shape[0]
            U = basis - basis.mean(0)  # (D, r)
            square = (z @ (U.T @ U) * z).sum(-1)  # (B, C, n)
            if tokens.offset is not None:
                o = tokens.offset.to(exact)
                o = o - o.mean(-1, keepdim=True)  # (1, C, n, D)
                square = square + 2 * torch.einsum("bcnr,bcnr->bcn", z, o @ U) + o.square().sum(-1)
            rstd = (square / width + ln.eps).rsqrt()
            constant = torch.addmv(bias, weight, ln.bias)
            fold = torch.cat([weight @ (ln.weight[:, None] * U), constant[:, None]], dim=1)  # (2 D, r + 1)
            self.fold_k, self.fold_v = fold.to(dtype).unflatten(0, (2, heads, -1))  # (H, e, r + 1) each
            self.fold_k = self.fold_k * self.fold_k.shape[1] ** -0.5  # the scale of attention, as above
            ones = torch.ones_like(z[..., :1])
            self.z = torch.cat([z * rstd[..., None], ones], dim=-1).to(dtype)  # (B, C, n, r + 1)
            self.rstd = rstd.to(dtype)[:, :, None]  # (B, C, 1, n)
            self.offset = None
            if tokens.offset is not None:
                kv = F.linear(o * ln.weight, weight).to(dtype).unflatten(-1, (2, heads, -1))  # (1, C, n, 2, H, e)
                self.offset = DenseKeys(*kv.unbind(-3))
        self.hidden = hidden
        self.lead = self.z.shape[:2]

    def of(self, classes: Tensor) -> LowRankKeys:
        some = copy.copy(self)
        some.z, some.rstd = take(self.z, 1, classes), take(self.rstd, 1, classes)
        some.hidden, some.lead = take(self.hidden, 0, classes), some.z.shape[:2]
        some.offset = self.offset and self.offset.of(classes)
        return some

    def scores(self, q: Tensor) -> Tensor:
        small = torch.einsum("hbcqe,her->hbcqr", q, self.fold_k)
        scores = torch.einsum("hbcqr,bcnr->hbcqn", small, self.z)
        return scores if self.offset is None else scores + self.offset.scores(q) * self.rstd

    def mix(self, p: Tensor) -> Tensor:
        small = torch.einsum("hbcqn,bcnr->hbcqr", p, self.z)
        mixed = torch.einsum("hbcqr,her->hbcqe", small, self.fold_v)
        return mixed if self.offset is None else mixed + self.offset.mix(p * self.rstd)


Keys = DenseKeys | LowRankKeys


def take(x: Tensor | None, dim: int, classes: Tensor) -> Tensor | None:
    """Some classes of x along dim; what all classes share stays shared."""
    return x if x is None or x.shape[dim] == 1 else x.index_select(dim, classes)


def merge(keys: Sequence[Keys]) -> list[Keys]:
    """Neighbours that all see and that have the same leading axes become one: fewer, larger products."""
    merged: list[Keys] = []
    for key in keys:
        pair = [*merged[-1:], key]
        if len(pair) == 2 and all(isinstance(k, DenseKeys) and k.hidden is None and k.lead == key.lead for k in pair):
            merged[-1] = DenseKeys(*(torch.cat([getattr(k, x) for k in pair], dim=2) for x in "kv"))
        else:
            merged.append(key)
    return merged


def attend(q: Tensor, keys: Sequence[Keys]) -> Tensor:
    """Softmax attention of q (B or 1, C or 1, q, H, e) over several segments -> (B, C, q, D).

    Shared keys are met where they lie: nothing of size (B, C, n, D) is expanded.
    """
    keys = merge(keys)
    q = q.movedim(-2, 0).contiguous()  # heads first: every product below is a batched matrix product without a copy
    scores = [key.scores(q) for key in keys]
    scores = [
        s if key.hidden is None else s.masked_fill(key.hidden, -torch.inf) for s, key in zip(scores, keys, strict=True)
    ]
    lead = torch.broadcast_shapes(*(s.shape[1:3] for s in scores))
    sizes = [s.shape[-1] for s in scores]
    scores = torch.cat([s.expand(-1, *lead, -1, -1) for s in scores], dim=-1)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=exact).to(q.dtype).split(sizes, dim=-1)
    mixed = keys[0].mix(weights[0])
    for key, weight in zip(keys[1:], weights[1:], strict=True):
        mixed = mixed + key.mix(weight)
    return mixed.movedim(0, -2).flatten(-2)
