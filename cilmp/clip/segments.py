"""Attention over a sequence given as segments, each with the leading axes it really depends on.

A segment that is overwritten before the next block gives keys and values and nothing else.

Axes: B images, C classes, n tokens of a segment, N tokens of all names packed, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cilmp.clip import written
from cilmp.clip.attention import Keys, attend, join_heads, split_heads
from cilmp.clip.block import Block, LayerNorm
from cilmp.clip.lowrank import LowRank
from cilmp.clip.packing import Packing

Writes = Mapping[int, Tensor | LowRank]  # segment -> the tokens that overwrite it


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring positions: x (B or 1, C or 1, n, D), of low rank, or, with a packing, (B or 1, N, D).

    mask (C, n) bool, False where a class has no token.  known: its keys before each block, where no block decides them.
    """

    x: Tensor | LowRank
    mask: Tensor | None = None
    packing: Packing | None = None
    known: Sequence[Keys] = ()

    @property
    def tokens(self) -> Tensor:
        """What a block works on, token by token: (B or 1, C or 1, n, D) or packed (B or 1, N, D)."""
        return self.x.dense() if isinstance(self.x, LowRank) else self.x

    @property
    def length(self) -> int:
        """n, of one that is not packed."""
        return (self.x.z if isinstance(self.x, LowRank) else self.x).shape[-2]

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
    if isinstance(segment.x, LowRank):
        return written.keys([block], [[segment.x]], hidden=segment.hidden)[0]
    k, v = split_heads(block.project(segment.x, "kv"), block.attn.heads, 2, segment.packing)
    return Keys(k, v, segment.hidden)


def ahead(
    blocks: Sequence[Block], segments: Sequence[Segment], deep: Sequence[Writes]
) -> tuple[list[Segment], list[Writes]]:
    """What is overwritten before each of these blocks (deep[i] before block i) and what is known becomes one segment of
    known keys, in the place of the first segments.  The others follow; and so do the writes that are left.
    """
    changed = {index for writes in deep for index in writes}
    known = {i for i, segment in enumerate(segments) if segment.known} - changed
    always = set(range(len(segments) - 1)).intersection(*deep)
    first = next(i for i in range(len(segments)) if i not in known | always)
    replaced = [i for i in range(first) if i in always]
    if not replaced:
        return list(segments), list(deep)
    there = [segments[i] for i in range(first) if i in known]
    met = written.keys(
        blocks,
        [[writes[i] for writes in deep] for i in replaced],
        [segment.known for segment in there],
        gaps([*there, *(segments[i] for i in replaced)]),
    )
    left: list[Writes] = [{i - first + 1: tokens for i, tokens in writes.items() if i >= first} for writes in deep]
    return [Segment(segments[0].x, known=met), *segments[first:]], left


def gaps(segments: Sequence[Segment]) -> Tensor | None:
    """(C, 1, n) bool for all their tokens end to end, True where a class has none; None where all classes have all."""
    masks = [segment.mask for segment in segments if segment.mask is not None]
    if not masks:
        return None
    every = [masks[0].new_ones(1, s.length) if s.mask is None else s.mask for s in segments]
    return ~torch.cat([mask.expand(len(masks[0]), -1) for mask in every], dim=1)[:, None]


def through(
    block: Block, segments: Sequence[Segment], wanted: Sequence[bool], later: Tensor | None = None
) -> list[Segment]:
    """The segments behind the block; those known or not wanted give keys and values and come back as they were.

    later: bool (n, n) or more, the upper triangle, where attention is causal: a token looks at the segments before its
    own and at no later token.  None: it looks at all of all segments, whose order is free, since positions are in the
    tokens.
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
        y = attend(q, met if later is None else [*met[:i], without(met[i], later[: q.shape[-2], : q.shape[-2]])])
        after.append(replace(segment, x=block.finish(x, join_heads(y, segment.packing))))
    return after


def without(own: Keys, later: Tensor) -> Keys:
    """A segment's keys as its own queries see them under a causal mask (n, n)."""
    return replace(own, hidden=later[None] if own.hidden is None else later | own.hidden)


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
    return block.finish(x, join_heads(y)).squeeze(2)
