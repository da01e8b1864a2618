"""Attention over a sequence given as segments, each with the leading axes it really depends on.

A segment that is overwritten before the next block gives keys and values and nothing else.

Axes: B images, C classes, n tokens of a segment, N tokens of all names packed, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cilmp.clip.attention import Keys, attend, split_heads
from cilmp.clip.block import Block, LayerNorm
from cilmp.clip.lowrank import LowRank, low_rank_keys
from cilmp.clip.packing import Packing


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring positions: x (B or 1, C or 1, n, D), of low rank, or, with a packing, (B or 1, N, D).

    mask (C, n) bool, False where a class has no token.  known: its keys before each block, where nothing
    learned decides them.
    """

    x: Tensor | LowRank
    mask: Tensor | None = None
    packing: Packing | None = None
    known: Sequence[Keys] = ()

    @property
    def tokens(self) -> Tensor:
        """What a block works on, token by token: (B or 1, C or 1, n, D) or packed (B or 1, N, D)."""
        return self.x.dense() if isinstance(self.x, LowRank) else self.x

    def dense(self) -> Tensor:
        """(B or 1, C or 1, n, D), packed ones in the places of their classes."""
        return self.packing.pad(self.tokens) if self.packing else self.tokens

    def normed(self, norm: LayerNorm) -> Segment:
        """Every token behind a LayerNorm."""
        if isinstance(self.x, LowRank):
            return replace(self, x=replace(self.x, norm=norm))
        return replace(self, x=norm(self.x))

    @property
    def hidden(self) -> Tensor | None:
        """(C, 1, n) bool, True in the gaps."""
        return None if self.mask is None else ~self.mask[:, None]


def keys(block: Block, segment: Segment) -> Keys:
    """Of a segment that only is looked at."""
    if segment.known:
        return segment.known[0]
    heads = block.attn.heads
    if isinstance(segment.x, LowRank):
        norm = segment.x.norm if block.style.post_norm else block.ln_1
        return low_rank_keys(segment.x, norm, *block.attn.rows("kv"), heads, segment.hidden)
    k, v = split_heads(block.project(segment.x, "kv"), heads, 2, segment.packing)
    return Keys(k, v, segment.hidden)


def through(block: Block, segments: Sequence[Segment], wanted: Sequence[bool], causal: bool = True) -> list[Segment]:
    """The segments behind the block; those known or not wanted give keys and values and come back as they were.

    Causal: a token looks at the segments before its own and at no later token.  Else it looks at all of all segments,
    whose order is free, since positions are in the tokens.
    """
    met: list[Keys] = []  # of every segment
    asked: list[tuple[Tensor, Tensor] | None] = []  # queries, and the tokens they are of
    for segment, want in zip(segments, wanted, strict=True):
        if segment.known or not want:
            met.append(keys(block, segment))
            asked.append(None)
            continue
        x = segment.tokens.to(block.attn.in_proj_weight.dtype)
        q, k, v = split_heads(block.project(x), block.attn.heads, 3, segment.packing)
        met.append(Keys(k, v, segment.hidden))
        asked.append((q, x))
    after = []
    for i, (segment, ask) in enumerate(zip(segments, asked, strict=True)):
        if ask is None:
            after.append(replace(segment, known=segment.known[1:]))
            continue
        q, x = ask
        y = attend(q, [*met[:i], without_later(met[i], q)] if causal else met)
        after.append(replace(segment, x=block.finish(x, segment.packing.pack(y) if segment.packing else y)))
    return after


def without_later(own: Keys, q: Tensor) -> Keys:
    """A segment's keys as its own queries q (H, B, C, n, e) see them under a causal mask."""
    later = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)[None]
    return replace(own, hidden=later if own.hidden is None else later | own.hidden)


def read(block: Block, segments: Sequence[Segment], row: Tensor, causal: bool = True) -> Tensor:
    """The last block: only token row[c] of the last segment is computed, (B, C, D)."""
    *before, last = segments
    tokens = last.tokens
    if last.packing:
        x = last.packing.pick(tokens, row)
    else:
        index = row[None, :, None, None].expand(tokens.shape[0], -1, -1, tokens.shape[-1])
        x = tokens.expand(-1, len(row), -1, -1).gather(2, index).squeeze(2)
    x = x[:, :, None]  # (B or 1, C, 1, D)
    (q,) = split_heads(block.project(x, "q"), block.attn.heads, 1)
    own = keys(block, last)
    if causal:
        later = (torch.arange(own.k.shape[-2], device=row.device) > row[:, None])[:, None]  # (C, 1, n)
        own = replace(own, hidden=later)
    y = attend(q, [*(keys(block, segment) for segment in before), own])
    return block.finish(x, y).squeeze(2)
