"""Attention over a sequence given as segments, each with the leading axes it really depends on.

A segment that is overwritten before the next block gives keys and values and nothing else.

Axes: B images, C classes, n tokens of a segment, N tokens of all names packed, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from cilmp.clip import fused, written
from cilmp.clip.attention import Keys, attend, beside, join_heads, split_heads
from cilmp.clip.block import Block, LayerNorm
from cilmp.clip.lowrank import LowRank
from cilmp.clip.packing import Packing

Writes = Mapping[int, Tensor | LowRank]  # segment -> the tokens that overwrite it


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring positions: x (B or 1, C or 1, n, D), of low rank, or, with a packing, (B or 1, N, D).

    mask (C, n) bool, False where a class has no token.  known: its keys before each of the next blocks, where no block
    decides them; None where they are among those of another segment.
    """

    x: Tensor | LowRank
    mask: Tensor | None = None
    packing: Packing | None = None
    known: Sequence[Keys | None] = ()

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


def looked_at(block: Block, segment: Segment) -> Keys | None:
    """What a segment that gives nothing else gives; None where its keys are among another's."""
    return segment.known[0] if segment.known else keys(block, segment)


def keys(block: Block, segment: Segment) -> Keys:
    x = segment.x
    if isinstance(x, LowRank) and keeps_rank(block, x):
        return written.keys([block], [[x]], hidden=segment.hidden)[0]
    k, v = split_heads(block.project(stream(block, segment), "kv"), block.attn.heads, 2, segment.packing)
    return Keys(k, v, segment.hidden)


def stream(block: Block, segment: Segment) -> Tensor:
    """A segment's tokens in the precision of the block."""
    return segment.tokens.to(block.attn.in_proj_weight.dtype)


def ahead(
    blocks: Sequence[Block], segments: Sequence[Segment], deep: Sequence[Writes]
) -> tuple[list[Segment], list[Writes]]:
    """The first segments, with keys known ahead for as many of the next blocks as possible, all among the first one's;
    and the writes that are left, deep[i] before block i.

    Known ahead is what is written before each of these blocks and again before the one behind them, or known already.
    """
    changed = {index for writes in deep for index in writes}
    known = {i for i, segment in enumerate(segments) if segment.known} - changed
    replaced, span = set(range(len(segments) - 1)), 0
    for i, writes in enumerate(deep):
        passing = replaced.intersection(writes, *deep[i + 1 : i + 2])
        passing = {index for index in passing if alike(blocks[0], deep[0][index], writes[index])}
        if not passing:
            break
        replaced, span = passing, i + 1
    first = next(i for i in range(len(segments)) if i not in known | replaced)
    order = sorted(replaced & set(range(first))) if span else []
    if not order:
        return list(segments), list(deep)
    there = [segments[i] for i in range(first) if i in known]
    met = written.keys(
        blocks[:span],
        [[writes[i] for writes in deep[:span]] for i in order],
        [[key for key in segment.known[:span] if key is not None] for segment in there],
        gaps([*there, *(segments[i] for i in order)]),
    )
    after = []
    for i, segment in enumerate(segments[:first]):
        among: Sequence[Keys | None] = [None] * span if i else met
        after.append(replace(segment, known=[*among, *segment.known[span:]]))
    left: list[Writes] = [{i: tokens for i, tokens in writes.items() if i not in order} for writes in deep[:span]]
    return [*after, *segments[first:]], [*left, *deep[span:]]


def alike(block: Block, a: Tensor | LowRank, b: Tensor | LowRank) -> bool:
    """Can tokens written before two blocks be worked on together?"""
    if isinstance(a, LowRank) and isinstance(b, LowRank):
        same = (a.z.shape, a.basis.shape, a.norm is None) == (b.z.shape, b.basis.shape, b.norm is None)
        return same and a.offset is b.offset is None and keeps_rank(block, a)
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape


def keeps_rank(block: Block, x: LowRank) -> bool:
    """Is there one LayerNorm at most between tokens of low rank and their keys?"""
    return x.norm is None or block.style.post_norm


def gaps(segments: Sequence[Segment]) -> Tensor | None:
    """(C, 1, n) bool for all their tokens end to end, True where a class has none; None where all classes have all."""
    masks = [segment.mask for segment in segments if segment.mask is not None]
    if not masks:
        return None
    every = [masks[0].new_ones(1, s.length) if s.mask is None else s.mask for s in segments]
    return ~beside(every, dim=-1)[:, None]


def through(block: Block, segments: Sequence[Segment], wanted: Sequence[bool], later: Tensor | None) -> list[Segment]:
    """The segments behind the block; those known or not wanted give keys and values and come back as they were.

    later: bool (n, n) or more, the upper triangle, where attention is causal: a token looks at the segments before its
    own and at no later token.  None: it looks at all of all segments, whose order is free, since positions are in the
    tokens.
    """
    heads, causal = block.attn.heads, later is not None
    asking = [want and not segment.known for segment, want in zip(segments, wanted, strict=True)]
    met: list[Keys | None] = []  # of every segment
    asked: list[tuple[Tensor, Tensor, Tensor | None] | None] = []  # tokens, their projections, queries
    for i, segment in enumerate(segments):
        if not asking[i]:
            met.append(looked_at(block, segment))
            asked.append(None)
            continue
        x = stream(block, segment)
        qkv, q, own = block.project(x), None, None
        looked_on = any(asking[i + 1 :] if causal else asking[:i] + asking[i + 1 :])
        if segment.packing is None or looked_on or not fused.works(x.device):
            q, own = parted(qkv, segment, heads)
        met.append(own)
        asked.append((x, qkv, q))
    after = []
    for i, (segment, ask) in enumerate(zip(segments, asked, strict=True)):
        if ask is None:
            after.append(replace(segment, known=segment.known[1:]))
            continue
        x, qkv, q = ask
        seen = [key for j, key in enumerate(met) if key is not None and (j < i or not causal and j > i)]
        own = met[i]
        if own is None and segment.packing and fused.fits(segment.packing, seen, qkv.shape[-1] // heads // 3):
            y = fused.attend_names(qkv, heads, segment.packing, seen, causal)
        else:
            if q is None or own is None:
                q, own = parted(qkv, segment, heads)
            own = own if later is None else without(own, later[None, : q.shape[-2], : q.shape[-2]])
            y = join_heads(attend(q, [*seen, own]), segment.packing)
        after.append(replace(segment, x=block.finish(x, y)))
    return after


def parted(qkv: Tensor, segment: Segment, heads: int) -> tuple[Tensor, Keys]:
    """A segment's projections (..., 3 D) as queries and keys."""
    q, k, v = split_heads(qkv, heads, 3, segment.packing)
    return q, Keys(k, v, segment.hidden)


def without(own: Keys, later: Tensor) -> Keys:
    """A segment's keys as its own queries see them where later tokens are hidden, bool (C or 1, q, n)."""
    return replace(own, hidden=later if own.hidden is None else later | own.hidden)


def read(block: Block, segments: Sequence[Segment], row: Tensor, later: Tensor | None) -> Tensor:
    """The last block: only token row[c] of the last segment is computed, (B, C, D).  later: as in `through`."""
    *before, last = segments
    tokens = stream(block, last)
    if last.packing:
        x = last.packing.pick(tokens, row)
    else:
        index = row[None, :, None, None].expand(tokens.shape[0], -1, -1, tokens.shape[-1])
        x = tokens.expand(-1, len(row), -1, -1).gather(2, index).squeeze(2)
    x = x[:, :, None]  # (B or 1, C, 1, D)
    (q,) = split_heads(block.project(x, "q"), block.attn.heads, 1)
    own = keys(block, last)
    if later is not None:
        own = without(own, later[row][:, None, : own.k.shape[-2]])
    met = [looked_at(block, segment) for segment in before]
    y = attend(q, [*(key for key in met if key is not None), own])
    return block.finish(x, join_heads(y)).squeeze(2)
