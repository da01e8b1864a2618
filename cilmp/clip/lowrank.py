"""Tokens of low rank: their keys and values have the same low rank, so the tokens themselves are never built.

Axes: K layers, B images, C classes, n tokens, r rank, w rows that tokens are mixtures of, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.attention import Keys, for_each, split_heads
from cilmp.clip.block import LayerNorm
from cilmp.devices import exactly


@dataclass(frozen=True)
class LowRank:
    """`norm(z @ basis.T + offset)`, (B, C, n, D): z (B, C, n, r), basis (D, r), offset (1, C or 1, n, D) or None.

    Offset and norm are the input layer's: the positional embedding, and the LayerNorm of a tower that has one there.
    unit: of tokens without them, z / std with a one behind it (B, C, n, r + 1), and the basis centred (see `layers`).
    """

    z: Tensor
    basis: Tensor
    offset: Tensor | None = None
    norm: LayerNorm | None = None
    unit: tuple[Tensor, Tensor] | None = None

    def dense(self) -> Tensor:
        """(B, C, n, D), for a layer that lets the tokens pass on."""
        x = self.z @ self.basis.T
        x = x if self.offset is None else x + self.offset
        return x if self.norm is None else self.norm(x)


def layers(z: Tensor, basis: Tensor, eps: float) -> list[LowRank]:
    """The tokens of K layers, z (K, B, C, n, r) and basis (K, D, r), with what all their blocks' LayerNorms start from
    computed at once."""
    U, _, rstd = standard(z, basis, eps)
    units = zip(F.pad(z * rstd, (0, 1), value=1.0), U, strict=True)
    return [LowRank(own, matrix, unit=unit) for own, matrix, unit in zip(z, basis, units, strict=True)]


def standard(z: Tensor, U: Tensor, eps: float, o: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Of U z + o, z (K, B, C, n, r), U (K, D, r), o (1, C or 1, n, D): U and o centred over D, and 1 / std (..., 1)."""
    U = U - U.mean(-2, keepdim=True)
    gram = for_each((U.mT @ U)[:, None], z.shape[1])  # (K, 1 or B, r, r)
    square = (torch.einsum("kbcnr,kbrs->kbcns", z, gram) * z).sum(-1)  # (K, B, C, n)
    if o is not None:
        o = o - o.mean(-1, keepdim=True)
        square = square + 2 * torch.einsum("kbcnr,bcnr->kbcn", z, o @ U[0]) + o.square().sum(-1)
    return U, o, (square / U.shape[-2] + eps).rsqrt()[..., None]


def low_rank_keys(
    tokens: LowRank, ln: LayerNorm | None, weight: Tensor, bias: Tensor, heads: int, hidden: Tensor | None = None
) -> Keys:
    """Keys of low-rank tokens (their own norm aside) behind a LayerNorm, without leaving the low rank.

    With x = U z + o and U, o centred over D, LayerNorm(x) = g * (U z + o) / std + beta, where std is the root of a
    quadratic form in z.  So k = M (z / std) + K (o / std) + c with M = W_k diag(g) U of r columns: mixtures of the r
    columns of M, of c and, where there is an offset, of the n rows K o.  Without a LayerNorm the same holds with std 1,
    g 1, beta 0 and nothing centred.
    weight (2 D, D), bias (2 D,): the key and value rows of the attention's input projection.
    """
    with exactly(tokens.z.device):  # a quadratic form wants full precision
        exact, dtype = torch.promote_types(weight.dtype, torch.float32), weight.dtype
        z, U = tokens.z.to(exact), tokens.basis.to(exact)
        o = None if tokens.offset is None else tokens.offset.to(exact)  # (1, C or 1, n, D)
        weight, bias = weight.to(exact), bias.to(exact)
        gain = torch.ones_like(U[:, 0])
        if ln is not None:
            gain, beta = (p.to(dtype if ln.rounded else exact).to(exact) for p in (ln.weight, ln.bias))
            bias = torch.addmv(bias, weight, beta)
        if ln is not None and tokens.unit is not None:
            z, U = tokens.unit
        else:
            rstd = torch.ones_like(z[..., :1])
            if ln is not None:
                (U,), o, (rstd,) = standard(z[None], U[None], ln.eps, o)
            z = F.pad(z * rstd, (0, 1), value=1.0)
        columns = F.linear((gain * U.T).contiguous(), weight)  # (r, 2 D)
        rows = torch.cat([columns, bias[None]])[None, None]  # (1, 1, r + 1, 2 D)
        if o is not None:
            o = F.linear(o * gain, weight)  # (1, C or 1, n, 2 D)
            rows = torch.cat([rows.expand(*o.shape[:2], -1, -1), o], dim=2)
            z = torch.cat([z, rstd.squeeze(-1).diag_embed()], dim=-1)
        k, v = split_heads(rows.to(dtype), heads, 2)
        return Keys(k, v, hidden, z.to(dtype))
