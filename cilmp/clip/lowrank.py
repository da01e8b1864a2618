"""Tokens of low rank: their keys and values have the same low rank, so the tokens themselves are never built.

Axes: B images, C classes, n tokens, r rank, w rows that tokens are mixtures of, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.attention import Keys, split_heads
from cilmp.devices import exactly


@dataclass(frozen=True)
class LowRank:
    """`z @ basis.T + offset`, (B, C, n, D): z (B, C, n, r), basis (D, r), offset (1, C or 1, n, D) or None.

    The offset is the positional embedding at the input layer.
    """

    z: Tensor
    basis: Tensor
    offset: Tensor | None = None

    def dense(self) -> Tensor:
        """(B, C, n, D), for a layer that lets the tokens pass on."""
        x = self.z @ self.basis.T
        return x if self.offset is None else x + self.offset


def low_rank_keys(
    tokens: LowRank, ln: nn.LayerNorm, weight: Tensor, bias: Tensor, heads: int, hidden: Tensor | None = None
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
        columns = F.linear((ln.weight * U.T).contiguous(), weight)  # (r, 2 D)
        rows = torch.cat([columns, torch.addmv(bias, weight, ln.bias)[None]])[None, None]  # (1, 1, r + 1, 2 D)
        z = torch.cat([z * rstd, torch.ones_like(rstd)], dim=-1)
        if tokens.offset is not None:
            o = F.linear(o * ln.weight, weight)  # (1, C or 1, n, 2 D)
            rows = torch.cat([rows.expand(*o.shape[:2], -1, -1), o], dim=2)
            z = torch.cat([z, rstd.squeeze(-1).diag_embed()], dim=-1)
        k, v = split_heads(rows.to(dtype), heads, 2)
        return Keys(k, v, hidden, z.to(dtype))
