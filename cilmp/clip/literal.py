"""The text tower as the reference implementations run it: every token of every (image, class) through every block.

The slow twin of TextTower.forward, kept to be compared with and to time against; it takes the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cilmp.clip.segments import Segment
from cilmp.clip.towers import TextTower, Writes


def encode_text(tower: TextTower, segments: Sequence[Segment], eot: Tensor, deep: Sequence[Writes] = ()) -> Tensor:
    """(B or 1, C, E) from the full context of (B, C, context, D); pads are hidden where nothing is causal."""
    context, dtype = len(tower.positional_embedding), tower.dtype
    every = [s.dense() for s in segments] + [Segment(x).dense() for writes in deep for x in writes.values()]
    lead = torch.broadcast_shapes((1, len(eot)), *(x.shape[:2] for x in every))
    masks = [
        every[i].new_ones(1, every[i].shape[2]).bool() if s.mask is None else s.mask for i, s in enumerate(segments)
    ]
    present = torch.cat([m.expand(lead[1], -1) for m in masks], dim=1)  # (C, P)
    order = (~present).int().argsort(dim=1, stable=True)[:, :context]  # a class's tokens first, its gaps last

    def sequence(tokens: Sequence[Tensor]) -> Tensor:
        """(B, C, context, k): the segments end to end, without gaps, zeros behind."""
        x = torch.cat([t.expand(*lead, -1, -1) for t in tokens], dim=2)
        x = x.gather(2, order[None, :, :, None].expand(len(x), -1, -1, x.shape[-1]))
        return torch.nn.functional.pad(x, (0, 0, 0, context - x.shape[2]))

    real = None if tower.causal else torch.arange(context, device=present.device) < present.sum(1, keepdim=True)
    x = tower.enter(sequence([s.dense().to(dtype) for s in segments]))
    for i, block in enumerate(tower.transformer.blocks):
        writes = deep[i] if i < len(deep) else {}
        if writes:
            fresh = [Segment(writes.get(k, torch.zeros_like(s.dense()))).dense() for k, s in enumerate(segments)]
            where = [torch.full((1, 1, m.shape[1], 1), k in writes, device=x.device) for k, m in enumerate(masks)]
            x = torch.where(sequence(where), sequence([t.to(dtype) for t in fresh]), x)
        x = block(x, causal=tower.causal, real=real)
    before = present[:, : -masks[-1].shape[1]].sum(1)  # (C,) tokens ahead of the last segment
    row = (before + eot)[None, :, None, None].expand(len(x), -1, 1, x.shape[-1])
    return tower.leave(x.gather(2, row).squeeze(2))
