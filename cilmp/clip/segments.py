"""Causal attention over a sequence given as segments, each with the leading axes it really depends on.

A segment that is overwritten before the next block gives keys and values and nothing else.

Axes: B images, C classes, n tokens of a segment, N tokens of all names packed, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cilmp.clip.attention import Keys, attend, split_heads
from cilmp.clip.block import Block
from cilmp.clip.lowrank import LowRank, low_rank_keys
from cilmp.clip.packing import Packing


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring positions: x (B or 1, C or 1, n, D), of low rank, or, with a packing, (B or 1, N, D).

    mask (C, n) bool, False where a class has no token.
    """

    x: Tensor | LowRank
    mask: Tensor | None = None
    packing: Packing | None = None

    @property
    def tokens(self) -> Tensor:
        """What a block works on, token by token: (B or 1, C or 1, n, D) or packed (B or 1, N, D)."""
        return self.x.dense() if isinstance(self.x, LowRank) else self.x

    def spread(self, y: Tensor) -> Tensor:
        """What was computed token by token, in the places of the classes: (B or 1, C or 1, n, ...)."""
        return self.packing.pad(y) if self.packing else y

    def dense(self) -> Tensor:
        """(B or 1, C or 1, n, D)."""
        return self.spread(self.tokens)

    @property
    def hidden(self) -> Tensor | None:
        """(C, 1, n) bool, True in the gaps."""
        return None if self.mask is None else ~self.mask[:, None]


def keys(block: Block, segment: Segment) -> Keys:
    """Of a segment that only is looked at."""
    heads = block.attn.heads
    if isinstance(segment.x, LowRank):
        return low_rank_keys(segment.x, block.ln_1, *block.attn.rows("kv"), heads, segment.hidden)
    k, v = split_heads(segment.spread(block.project(segment.x, "kv")), heads, 2)
    return Keys(k, v, segment.hidden)


def causal(block: Block, segments: Sequence[Segment], wanted: Sequence[bool]) -> list[Segment]:
    """The segments behind the block; those not wanted give keys and values and come back as they were."""
    before: list[Keys] = []
    after = []
    for segment, want in zip(segments, wanted, strict=True):
        if not want:
            before.append(keys(block, segment))
            after.append(segment)
            continue
        x = segment.tokens.to(block.attn.in_proj_weight.dtype)
        q, k, v = split_heads(segment.spread(block.project(x)), block.attn.heads, 3)
        later = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)[None]
        hidden = later if segment.hidden is None else later | segment.hidden
        y = attend(q, [*before, Keys(k, v, hidden)])
        before.append(Keys(k, v, segment.hidden))
        after.append(replace(segment, x=block.finish(x, segment.packing.pack(y) if segment.packing else y)))
    return after


def read(block: Block, segments: Sequence[Segment], row: Tensor) -> Tensor:
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
    later = (torch.arange(own.k.shape[-2], device=row.device) > row[:, None])[:, None]  # (C, 1, n)
    y = attend(q, [*(keys(block, segment) for segment in before), replace(own, hidden=later)])
    return block.finish(x, y).squeeze(2)
