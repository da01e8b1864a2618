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
    """`norm(z @ basis.T + offset)`, (B, C, n, D): z (B, C, n, r), basis (D, r), offset (1, C or 1, n, D) or None.

    Offset and norm are the input layer's: the positional embedding, and the LayerNorm of a tower that has one there.
    """

    z: Tensor
    basis: Tensor
    offset: Tensor | None = None
    norm: nn.LayerNorm | None = None

    def dense(self) -> Tensor:
        """(B, C, n, D), for a layer that lets the tokens pass on."""
        x = self.z @ self.basis.T
        x = x if self.offset is None else x + self.offset
        return x if self.norm is None else self.norm(x)


def low_rank_keys(
    tokens: LowRank, ln: nn.LayerNorm | None, weight: Tensor, bias: Tensor, heads: int, hidden: Tensor | None = None
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
        rstd, gain = torch.ones_like(z[..., :1]), torch.ones_like(U[:, 0])
        if ln is not None:
            U = U - U.mean(0)  # (D, r)
            square = (z @ (U.T @ U) * z).sum(-1)  # (B, C, n)
            if o is not None:
                o = o - o.mean(-1, keepdim=True)
                square = square + 2 * torch.einsum("bcnr,bcnr->bcn", z, o @ U) + o.square().sum(-1)
            rstd, gain = (square / len(U) + ln.eps).rsqrt()[..., None], ln.weight
            bias = torch.addmv(bias, weight, ln.bias.to(exact))
        columns = F.linear((gain * U.T).contiguous(), weight)  # (r, 2 D)
        rows = torch.cat([columns, bias[None]])[None, None]  # (1, 1, r + 1, 2 D)
        z = torch.cat([z * rstd, torch.ones_like(rstd)], dim=-1)
        if o is not None:
            o = F.linear(o * gain, weight)  # (1, C or 1, n, 2 D)
            rows = torch.cat([rows.expand(*o.shape[:2], -1, -1), o], dim=2)
            z = torch.cat([z, rstd.squeeze(-1).diag_embed()], dim=-1)
        k, v = split_heads(rows.to(dtype), heads, 2)
        return Keys(k, v, hidden, z.to(dtype))
