"""What a query may look at: keys and values of segments, each kept at the smallest size that holds them.

Axes: H heads, B images, C classes, q queries, n tokens of a segment, w rows that tokens are mixtures of, e width of a
head, D = H * e, r rank.  Heads come first: every product below is a batched matrix product without a copy.
Leading axes are (B or 1, C or 1) throughout; torch.einsum broadcasts the ones without copying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.devices import exactly
from cilmp.packing import Packed, Packing


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
    def packing(self) -> Packing | None:
        return self.x.packing if isinstance(self.x, Packed) else None

    @property
    def tokens(self) -> Tensor:
        """What a block computes on: dense, or (B or 1, N, D) of packed tokens."""
        return self.x.x if self.packing else self.dense()

    @property
    def hidden(self) -> Tensor | None:
        """(C, 1, n) bool, True in the gaps."""
        return None if self.mask is None else ~self.mask[:, None]


@dataclass(frozen=True)
class Keys:
    """Keys and values k and v (H, B or 1, C or 1, n, e); with z (B or 1, C or 1, n, w) they are z k and z v of w rows,
    which are never built: a query meets the rows, then z.

    hidden: bool, broadcastable to (C, q, n), True where a query must not look.
    """

    k: Tensor
    v: Tensor
    hidden: Tensor | None = None
    z: Tensor | None = None

    def of(self, classes: Tensor) -> Keys:
        """Some classes; what all share stays shared."""
        dims = (self.k, 2), (self.v, 2), (self.hidden, 0), (self.z, 1)
        return Keys(*(x if x is None or x.shape[d] == 1 else x.index_select(d, classes) for x, d in dims))

    def behind(self, first: Keys) -> Keys:
        """Both as one, `first` without z and hidden; its tokens are their own rows."""
        k, v = torch.cat([first.k, self.k], dim=3), torch.cat([first.v, self.v], dim=3)
        n, hidden, z = first.k.shape[3], self.hidden, self.z
        if hidden is not None:
            hidden = F.pad(hidden, (n, 0))
        if z is not None:
            unit = torch.eye(n, dtype=z.dtype, device=z.device)
            z = F.pad(z, (n, 0, n, 0)) + F.pad(unit, (0, z.shape[3], 0, z.shape[2]))
        return Keys(k, v, hidden, z)

    def scores(self, q: Tensor) -> Tensor:
        """Scaled queries q (H, B, C, q, e) -> (H, B, C, q, n), -inf where hidden."""
        scores = torch.einsum("hbcqe,hbcwe->hbcqw", q, self.k)
        if self.z is not None:
            scores = torch.einsum("hbcqw,bcnw->hbcqn", scores, self.z)
        return scores if self.hidden is None else scores.masked_fill(self.hidden, -torch.inf)

    def mix(self, p: Tensor) -> Tensor:
        """p (H, B, C, q, n) -> (H, B, C, q, e)."""
        if self.z is not None:
            p = torch.einsum("hbcqn,bcnw->hbcqw", p, self.z)
        return torch.einsum("hbcqw,hbcwe->hbcqe", p, self.v)


def low_rank_keys(
    tokens: LowRank, ln: torch.nn.LayerNorm, weight: Tensor, bias: Tensor, heads: int, hidden: Tensor | None = None
) -> Keys:
    """Keys of low-rank tokens behind a LayerNorm, without leaving the low rank.

    With x = U z + o and U, o centred over D, LayerNorm(x) = g * (U z + o) / std + beta, where std is the root of a
    quadratic form in z.  So k = M (z / std) + K (o / std) + c with M = W_k diag(g) U of r columns: mixtures of the r
    columns of M, of c and, where there is an offset, of the n rows K o.
    weight (2 D, D), bias (2 D,): the key and value rows of the attention's input projection.
    """
    with exactly(tokens.z.device):  # a quadratic form wants full precision
        exact, dtype = ln.weight.dtype, weight.dtype
        z, basis = tokens.z.to(exact), tokens.basis.to(exact)
        weight, bias = weight.to(exact), bias.to(exact)
        U = basis - basis.mean(0)  # (D, r)
        square = (z @ (U.T @ U) * z).sum(-1)  # (B, C, n)
        if tokens.offset is not None:
            o = tokens.offset.to(exact)
            o = o - o.mean(-1, keepdim=True)  # (1, C or 1, n, D)
            square = square + 2 * torch.einsum("bcnr,bcnr->bcn", z, o @ U) + o.square().sum(-1)
        rstd = (square / len(basis) + ln.eps).rsqrt()[..., None]
        constant = torch.addmv(bias, weight, ln.bias)
        rows = F.linear((ln.weight * U.T).contiguous(), weight)
        rows = torch.cat([rows, constant[None]])[None, None]  # (1, 1, w, 2 D)
        z = torch.cat([z * rstd, torch.ones_like(rstd)], dim=-1)
        if tokens.offset is not None:
            o = F.linear(o * ln.weight, weight)  # (1, C or 1, n, 2 D)
            rows = torch.cat([rows.expand(*o.shape[:2], -1, -1), o], dim=2)
            z = torch.cat([z, rstd.squeeze(-1).diag_embed()], dim=-1)
        return Keys(*with_heads_first(rows.to(dtype), heads, 2), hidden, z.to(dtype))


class HeadsFirst(torch.autograd.Function):
    """(..., parts * D), each part's heads end to end, -> (parts, H, ..., e); the first part times `scale`.

    One pass each way: the scale of attention works in place on the copies that the change of layout makes.
    """

    @staticmethod
    def forward(ctx, y: Tensor, parts: int, heads: int, scale: float) -> Tensor:
        ctx.scale = scale
        y = y.unflatten(-1, (parts, heads, -1))
        y = y.permute(-3, -2, *range(y.dim() - 3), -1).clone(memory_format=torch.contiguous_format)
        if scale != 1.0:
            y[0].mul_(scale)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.permute(*range(2, grad.dim() - 1), 0, 1, -1).clone(memory_format=torch.contiguous_format)
        if ctx.scale != 1.0:
            grad[..., 0, :, :].mul_(ctx.scale)
        return grad.flatten(-3), None, None, None


def with_heads_first(y: Tensor, heads: int, parts: int) -> Tensor:
    """y (..., parts * D): keys and values (2 parts), or queries in front -> (parts, H, ..., e).

    Queries come scaled by 1 / sqrt(e): before the product, which could overflow half precision.
    """
    scale = 1.0 if parts == 2 else (y.shape[-1] // (parts * heads)) ** -0.5
    return HeadsFirst.apply(y, parts, heads, scale)


def merge(keys: Sequence[Keys]) -> list[Keys]:
    """Neighbours with the same leading axes become one, where the first one's tokens all see and are their own rows:
    fewer, larger products."""
    merged: list[Keys] = []
    for key in keys:
        last = merged[-1] if merged else None
        if last and last.hidden is None and last.z is None and last.k.shape[1:3] == key.k.shape[1:3]:
            merged[-1] = key.behind(last)
        else:
            merged.append(key)
    return merged


def attend(q: Tensor, keys: Sequence[Keys]) -> Tensor:
    """Softmax attention of scaled queries q (H, B or 1, C or 1, q, e) over several segments -> (H, B, C, q, e).

    Shared keys are met where they lie: nothing of size (B, C, n, D) is expanded.
    """
    scores = [key.scores(q) for key in keys]
    lead = torch.broadcast_shapes(*(s.shape[1:3] for s in scores))
    sizes = [s.shape[-1] for s in scores]
    scores = torch.cat([s.expand(-1, *lead, -1, -1) for s in scores], dim=-1)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=exact).to(q.dtype).split(sizes, dim=-1)
    mixed = keys[0].mix(weights[0])
    for key, weight in zip(keys[1:], weights[1:], strict=True):
        mixed = mixed + key.mix(weight)
    return mixed
