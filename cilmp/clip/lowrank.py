"""Tokens of low rank: their keys and values have the same low rank, so the tokens themselves are never built.

Axes: K blocks, B images, C classes, n tokens, r rank, w rows that tokens are mixtures of, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.attention import for_each
from cilmp.clip.block import LayerNorm


@dataclass(frozen=True)
class LowRank:
    """`norm(z @ basis.T + offset)`, (B, C, n, D): z (B, C, n, r), basis (D, r), offset (1, C or 1, n, D) or None.

    Offset and norm are the input layer's: the positional embedding, and the LayerNorm of a tower that has one there.
    """

    z: Tensor
    basis: Tensor
    offset: Tensor | None = None
    norm: LayerNorm | None = None

    def dense(self) -> Tensor:
        """(B, C, n, D), for a layer that lets the tokens pass on."""
        x = self.z @ self.basis.T
        x = x if self.offset is None else x + self.offset
        return x if self.norm is None else self.norm(x)


class Norms(NamedTuple):
    """LayerNorms of K blocks: weights and biases (K, D), in the precision to work in."""

    gain: Tensor
    beta: Tensor
    eps: float

    @classmethod
    def of(cls, norms: Sequence[LayerNorm], exact: torch.dtype) -> Norms:
        gain, beta = (torch.stack([getattr(norm, name) for norm in norms]).to(exact) for name in ("weight", "bias"))
        return cls(gain, beta, norms[0].eps)


def mixtures(tokens: Sequence[LowRank], norms: Norms | None, exact: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What K blocks project: rows (K, 1, C or 1, w, D), which of them a bias belongs to (w,), 0 or 1, and tokens as
    mixtures of them, z (K, B, C, n, w).

    With x = U z + o and U, o centred over D, LayerNorm(x) = g * (U z + o) / std + beta, where std is the root of a
    quadratic form in z: mixtures of the r columns of g U, of beta and, where there is an offset, of the n rows g o.
    Without a LayerNorm the same holds with std 1, g 1, beta 0 and nothing centred.
    """
    z, U = (torch.stack(parts).to(exact) for parts in ([t.z for t in tokens], [t.basis for t in tokens]))
    o = None if tokens[0].offset is None else tokens[0].offset.to(exact)  # (1, C or 1, n, D)
    if norms is None:
        columns, constant, rstd = U.mT, torch.zeros_like(U.mT[:, :1]), torch.ones_like(z[..., :1])
    else:
        U, o, rstd = standard(z, U, norms.eps, o)
        columns, constant = U.mT * norms.gain[:, None], norms.beta[:, None]
        o = None if o is None else o * norms.gain
    rows = torch.cat([columns, constant], dim=1)[:, None, None]  # (K, 1, 1, r + 1, D)
    z = F.pad(z * rstd, (0, 1), value=1.0)
    if o is not None:  # K is 1
        rows = torch.cat([rows.expand(-1, -1, o.shape[1], -1, -1), o[None]], dim=-2)
        z = torch.cat([z, rstd.squeeze(-1).diag_embed()], dim=-1)
    return rows, torch.eye(rows.shape[-2], dtype=exact, device=z.device)[U.shape[-1]], z


def standard(z: Tensor, U: Tensor, eps: float, o: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Of U z + o, z (K, B, C, n, r), U (K, D, r), o (1, C or 1, n, D): U and o centred over D, and 1 / std (..., 1)."""
    U = U - U.mean(-2, keepdim=True)
    gram = for_each((U.mT @ U)[:, None], z.shape[1])  # (K, 1 or B, r, r)
    square = (torch.einsum("kbcnr,kbrs->kbcns", z, gram) * z).sum(-1)  # (K, B, C, n)
    if o is not None:
        o = o - o.mean(-1, keepdim=True)
        square = square + 2 * torch.einsum("kbcnr,bcnr->kbcn", z, o @ U[0]) + o.square().sum(-1)
    return U, o, (square / U.shape[-2] + eps).rsqrt()[..., None]
