"""Keys of tokens that no block has changed: what a method writes before each of K blocks, for all of them at once.

They are one chain of products, and with all else that is known ahead of a block (SOS) they are one set of keys.

Axes: K blocks, B images, C classes, H heads, n tokens, w rows that tokens are mixtures of, D width, e = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip import fused
from cilmp.clip.attention import Keys, beside, diagonal, for_each, identity
from cilmp.clip.block import Block
from cilmp.clip.lowrank import LowRank, Norms, mixtures
from cilmp.devices import exactly


def keys(
    blocks: Sequence[Block],
    written: Sequence[Sequence[Tensor | LowRank]],
    known: Sequence[Sequence[Keys]] = (),
    hidden: Tensor | None = None,
) -> list[Keys]:
    """One set of keys for each block, of segments given for every block: those known, then those written.

    One of `written` is a segment's tokens (B or 1, C or 1, n, D) before each block, one of `known` a segment's keys
    (H, 1, 1, n, e).  hidden (C, 1, n) is of all tokens, in that order.
    """
    weight, heads = blocks[0].attn.in_proj_weight, blocks[0].attn.heads
    with exactly(weight.device):  # a quadratic form wants full precision
        exact = torch.promote_types(weight.dtype, torch.float32)
        norms = None if blocks[0].style.post_norm else Norms.of([block.ln_1 for block in blocks], exact)
        parts, biased, mixes = zip(*(mixed(tokens, norms, exact) for tokens in written), strict=True)
        rows, low = beside(parts, dim=-2), any(isinstance(tokens[0], LowRank) for tokens in written)
        rows = rows if low else rows.to(weight.dtype)  # and no copies of the weights in full precision
        y = projected(blocks, rows, torch.cat(biased)).to(weight.dtype)  # (K, B or 1, C or 1, w, 2 D)
    z: Sequence[Tensor | None] = [None] * len(blocks)
    if low:
        every = diagonal([*(identity(part[0].k) for part in known), *mixes]).to(weight.dtype)
        y, z = y if fused.works(y.device) else for_each(y, every.shape[1]), every.unbind(0)
    y = y.unflatten(-1, (2, heads, -1)).movedim((-3, -2), (0, 2))  # (2, K, H, B or 1, C or 1, w, e)
    there = [torch.stack([*(key.k for key in part), *(key.v for key in part)]).unflatten(0, (2, -1)) for part in known]
    both = beside([*there, y], dim=-2).flatten(0, 1).unbind(0)
    return [Keys(k, v, hidden, own) for k, v, own in zip(both[: len(z)], both[len(z) :], z, strict=True)]


def mixed(tokens: Sequence[Tensor | LowRank], norms: Norms | None, exact: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens behind the LayerNorms ahead of attention, as `mixtures` gives them; dense ones are rows.

    Post-norm there are no LayerNorms there, but tokens of low rank may bring their own.
    """
    if low := [one for one in tokens if isinstance(one, LowRank)]:
        own = [one.norm for one in low if one.norm is not None]
        return mixtures(low, Norms.of(own, exact) if own and norms is None else norms, exact)
    x = torch.stack([one for one in tokens if isinstance(one, Tensor)]).to(exact)  # (K, B or 1, C or 1, n, D)
    if norms is not None:
        x = F.layer_norm(x, x.shape[-1:], eps=norms.eps)
        x = torch.addcmul(norms.beta[:, None, None, None], x, norms.gain[:, None, None, None])
    return x, x.new_ones(x.shape[-2]), identity(x)


def projected(blocks: Sequence[Block], rows: Tensor, biased: Tensor) -> Tensor:
    """rows (K, ..., w, D) through the blocks' projections to keys and values, (K, ..., w, 2 D); biased (w,) 0 or 1."""
    weights, biases = zip(*(block.attn.rows("kv") for block in blocks), strict=True)
    y = rows.flatten(1, -2) @ torch.stack(weights).to(rows.dtype).mT
    y = y.unflatten(1, rows.shape[1:-1])
    return torch.addcmul(y, biased.to(y.dtype)[:, None], torch.stack(biases).to(y.dtype)[:, None, None, None])
