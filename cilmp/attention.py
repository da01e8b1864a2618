"""What a query may look at: keys and values of segments, each kept at the smallest size that holds them.

Axes: B images, C classes, q queries, n tokens of a segment, H heads, e width of a head, D = H * e, r rank.
Leading axes are (B or 1, C or 1) throughout; torch.einsum broadcasts the ones without copying.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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
        """(1, C, 1, 1, n) bool, True in the gaps."""
        return None if self.mask is None else ~self.mask[None, :, None, None]


class DenseKeys:
    """Keys and values as they are, k and v (B or 1, C or 1, n, H, e)."""

    def __init__(self, k: Tensor, v: Tensor):
        self.k, self.v = k, v

    def scores(self, q: Tensor) -> Tensor:
        """q (B, C, q, H, e) -> (B, C, H, q, n)."""
        return torch.einsum("bcqhe,bcnhe->bchqn", q, self.k)

    def mix(self, p: Tensor) -> Tensor:
        """p (B, C, H, q, n) -> (B, C, q, H, e)."""
        return torch.einsum("bchqn,bcnhe->bcqhe", p, self.v)


class LowRankKeys:
    """Keys and values of low-rank tokens behind a LayerNorm, without leaving the low rank.

    With x = U z + o and U, o centred over D, LayerNorm(x) = g * (U z + o) / std + beta, where std is the root of a
    quadratic form in z.  So k = M (z / std) + K (o / std) + c with M = W_k diag(g) U of r columns: a query meets z
    through M^T q, r numbers a head instead of e.
    """

    def __init__(self, tokens: LowRank, ln: torch.nn.LayerNorm, weight: Tensor, bias: Tensor, heads: int, dtype):
        """weight (2 D, D), bias (2 D,): the key and value rows of the attention's input projection."""
        with torch.autocast(tokens.z.device.type, enabled=False):  # a quadratic form wants full precision
            exact = ln.weight.dtype
            z, basis = tokens.z.to(exact), tokens.basis.to(exact)
            weight, bias = weight.to(exact), bias.to(exact)
            width = basis.shape[0]
            U = basis - basis.mean(0)  # (D, r)
            square = (z @ (U.T @ U) * z).sum(-1)  # (B, C, n)
            if tokens.offset is not None:
                o = tokens.offset.to(exact)
                o = o - o.mean(-1, keepdim=True)  # (1, C, n, D)
                square = square + 2 * torch.einsum("bcnr,bcnr->bcn", z, o @ U) + o.square().sum(-1)
            self.rstd = (square / width + ln.eps).rsqrt()
            scaled = weight * ln.weight  # (2 D, D)
            fold = torch.cat([scaled @ U, (weight @ ln.bias + bias)[:, None]], dim=1)  # (2 D, r + 1)
            self.fold_k, self.fold_v = fold.to(dtype).unflatten(0, (2, heads, -1))  # (H, e, r + 1) each
            ones = torch.ones_like(z[..., :1])
            self.z = torch.cat([z * self.rstd[..., None], ones], dim=-1).to(dtype)  # (B, C, n, r + 1)
            self.rstd = self.rstd.to(dtype)[:, :, None, None]  # (B, C, 1, 1, n)
            self.offset = None
            if tokens.offset is not None:
                kv = F.linear(o, scaled).to(dtype).unflatten(-1, (2, heads, -1))  # (1, C, n, 2, H, e)
                self.offset = DenseKeys(*kv.unbind(-3))

    def scores(self, q: Tensor) -> Tensor:
        small = torch.einsum("bcqhe,her->bcqhr", q, self.fold_k)
        scores = torch.einsum("bcqhr,bcnr->bchqn", small, self.z)
        return scores if self.offset is None else scores + self.offset.scores(q) * self.rstd

    def mix(self, p: Tensor) -> Tensor:
        small = torch.einsum("bchqn,bcnr->bcqhr", p, self.z)
        mixed = torch.einsum("bcqhr,her->bcqhe", small, self.fold_v)
        return mixed if self.offset is None else mixed + self.offset.mix(p * self.rstd)


Keys = DenseKeys | LowRankKeys


def join(keys: list[Keys], hidden: list[Tensor | None]) -> tuple[list[Keys], list[Tensor | None]]:
    """Neighbours that all see and that have the same leading axes become one: fewer, larger products."""
    joined: list[Keys] = []
    masks: list[Tensor | None] = []
    for key, mask in zip(keys, hidden, strict=True):
        last = joined[-1] if joined else None
        if (
            isinstance(key, DenseKeys)
            and isinstance(last, DenseKeys)
            and mask is None
            and masks[-1] is None
            and key.k.shape[:2] == last.k.shape[:2]
        ):
            joined[-1] = DenseKeys(torch.cat([last.k, key.k], dim=2), torch.cat([last.v, key.v], dim=2))
        else:
            joined.append(key)
            masks.append(mask)
    return joined, masks


def attend(q: Tensor, keys: list[Keys], hidden: list[Tensor | None]) -> Tensor:
    """Softmax attention of q (B or 1, C or 1, q, H, e), already scaled, over several segments -> (B, C, q, H, e).

    hidden[i]: bool, broadcastable to (B, C, H, q, n_i), True where segment i must not be seen.  Shared keys are met
    where they lie: nothing of size (B, C, n, D) is expanded.
    """
    keys, hidden = join(keys, hidden)
    scores = [key.scores(q) for key in keys]
    scores = [s if h is None else s.masked_fill(h, float("-inf")) for s, h in zip(scores, hidden, strict=True)]
    lead = torch.broadcast_shapes(*(s.shape[:2] for s in scores))
    sizes = [s.shape[-1] for s in scores]
    scores = torch.cat([s.expand(*lead, *s.shape[2:]) for s in scores], dim=-1)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=exact).to(q.dtype).split(sizes, dim=-1)
    mixed = keys[0].mix(weights[0])
    for key, weight in zip(keys[1:], weights[1:], strict=True):
        mixed = mixed + key.mix(weight)
    return mixed
