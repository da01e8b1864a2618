"""'SOS context name . EOS' for every class, as segments of the text tower's sequence.

Axes: B images, C classes, n slots of the context, L slots of LLM tokens, m positions of a piece, D width.
Buffers depend on the class names, so they stay out of a checkpoint and prompts trained on some classes serve others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cilmp.clip.attention import Keys
from cilmp.clip.lowrank import LowRank
from cilmp.clip.model import CLIP
from cilmp.clip.packing import Packing
from cilmp.clip.segments import Segment
from cilmp.clip.tokenizers import padded
from cilmp.errors import UserError

POSITIONS = ("end", "middle", "front")


def context(clip: CLIP, n: int, words: str = "") -> Tensor:
    """(n, D) in the precision of the embedding: the first n tokens of `words`, or N(0, 0.02) where there are none."""
    table = clip.token_embedding.weight
    if words:
        start = clip.tokenizer.start
        return table[torch.tensor(clip.tokenizer.encode(words)[start : start + n], device=table.device)].clone()
    return torch.randn(n, clip.text.width, dtype=table.dtype) * 0.02


def length(clip: CLIP, text: str) -> int:
    """Tokens of a text without its frame."""
    return len(clip.tokenizer.encode(text)) - clip.tokenizer.start - clip.tokenizer.end


class Run(NamedTuple):
    """Neighbouring positions of every class: kind, each class's first position, and its ids or its number of slots."""

    kind: str  # start, ctx, llm, name or tail
    first: list[int]
    content: list[list[int]] | list[int]

    def size(self, c: int) -> int:
        item = self.content[c]
        return len(item) if isinstance(item, list) else item

    def places(self, c: int) -> list[int]:
        return [*range(self.first[c], self.first[c] + self.size(c))]


class Piece(nn.Module):
    """Runs that are one segment: slots that a method fills, or fixed tokens, of one run or of several."""

    fixed: Tensor  # (1, C or 1, m, D), or packed (1, N, D): positions, and the embedding of fixed tokens
    mask: Tensor | None  # (C, m) bool, False in the gaps of shorter classes

    def __init__(self, clip: CLIP, *runs: Run):
        super().__init__()
        classes = range(len(runs[0].first))
        rows = [[place for run in runs for place in run.places(c)] for c in classes]
        ids = [[i for run in runs if isinstance(item := run.content[c], list) for i in item] for c in classes]
        counts = torch.tensor([len(row) for row in rows])
        self.kind, self.slots = runs[-1].kind, not any(ids)
        most, device = int(counts.max()), clip.token_embedding.weight.device
        for row, c in zip(rows, classes, strict=True):  # gaps go on counting
            last = row[-1] if row else runs[0].first[c] - 1
            row += range(last + 1, last + 1 + most - len(row))
        places = torch.tensor(rows).reshape(-1, most).clamp(max=clip.context - 1)  # (C, m)
        tokens = clip.text.positional_embedding[places.to(device)]
        if not self.slots:
            tokens = tokens + clip.token_embedding(padded(ids, most, clip.tokenizer.pad).to(device))
        if bool((tokens == tokens[:1]).all()):
            tokens = tokens[:1]  # the same for every class
        tokens = tokens.detach()[None]
        ragged = bool((counts != most).any())
        packed = not self.slots and (ragged or tokens.shape[1] > 1)
        self.packing = Packing(counts).to(device) if packed else None
        if self.packing:
            tokens = self.packing.pack(tokens.expand(-1, len(counts), -1, -1))
        mask = (torch.arange(most) < counts[:, None]).to(device) if ragged else None
        self.register_buffer("fixed", tokens, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, dtype: torch.dtype, content: Tensor | LowRank | None = None) -> Segment:
        """content (B or 1, C or 1, m, D): what fills the slots."""
        if isinstance(content, LowRank):
            return Segment(LowRank(content.z, content.basis, self.fixed), self.mask)
        fixed = self.fixed.to(dtype)
        return Segment(fixed if content is None else content + fixed, self.mask, self.packing)


class ClassPrompts(nn.Module):
    """Fixed tokens of every class around the slots a method fills.

    n: context slots.  words: the sentence the class name ends ("a photo of a"); its first n tokens make room for the
    slots, the others stay.  lengths: LLM slots of each class, behind the context.  position: of the class name.
    closing: what stands behind it.
    Where the tower is not causal the order of segments is free, and all fixed tokens of a class are the last one; where
    it sees pads they are among them.  UserError where a class's prompt is longer than the text tower reads.
    """

    eot: Tensor  # (C,) the row that is read in the last segment: EOS, [CLS] or the last position
    opening: Tensor | None  # keys and values of SOS, as the frozen tower gives them (TextTower.opening)

    def __init__(
        self,
        clip: CLIP,
        classnames: Sequence[str],
        n: int,
        words: str = "",
        lengths: Sequence[int] | None = None,
        position: str = "end",
        closing: str = ".",
    ):
        super().__init__()
        if position not in POSITIONS:
            raise UserError(f"CLASS_TOKEN_POSITION is '{position}'; choose one of {', '.join(POSITIONS)}.")
        names = [name.replace("_", " ") for name in classnames]
        words = words.replace("_", " ") or " ".join([clip.tokenizer.placeholder] * n)
        ids = [clip.tokenizer.encode(f"{words} {name}{closing}") for name in names]
        first = clip.tokenizer.start
        opening = [row[:first] for row in ids]
        rest = [row[first + n :] for row in ids]  # name . EOS (and what `words` says beyond the n slots)
        layout: list[tuple[str, list]] = [("start", opening)] if first else []
        if position == "end":
            layout += [("ctx", [n] * len(names))]
            layout += [("llm", list(lengths))] if lengths is not None else []
            layout += [("tail", rest)]
        else:
            ahead = n // 2 if position == "middle" else 0
            named = [(row, length(clip, name)) for row, name in zip(rest, names, strict=True)]
            layout += [("ctx", [ahead] * len(names))] if ahead else []
            layout += [("name", [row[:k] for row, k in named]), ("ctx", [n - ahead] * len(names))]
            layout += [("tail", [row[k:] for row, k in named])]

        runs, used = [], [0] * len(names)
        for kind, content in layout:
            runs.append(Run(kind, used, content))
            used = [place + runs[-1].size(c) for c, place in enumerate(used)]
        if max(used) > clip.context:
            worst = used.index(max(used))
            raise UserError(
                f"The prompt of class '{classnames[worst]}' needs {max(used)} tokens and CLIP reads "
                f"{clip.context}: shorten the class name, the context (N_CTX) or the LLM representation."
            )
        fixed = [run for run in runs if run.kind not in ("ctx", "llm")]
        own = [runs[-1]] if clip.text.causal else fixed  # what the last segment holds
        ends = [sum(run.size(c) for run in own) - 1 for c in range(len(names))]
        if clip.text.padded:
            pads = [[clip.tokenizer.pad] * (clip.context - place) for place in used]
            own = [*own, Run("tail", used, pads)]
        rows = {"eot": ends, "first": [0] * len(names)}
        rows["last"] = [sum(run.size(c) for run in own) - 1 for c in range(len(names))]
        others = runs[:-1] if clip.text.causal else [run for run in runs if run not in fixed]
        self.pieces = nn.ModuleList([*(Piece(clip, run) for run in others), Piece(clip, *own)])
        self.sizes = [content[0] for kind, content in layout if kind == "ctx"]
        self.causal = clip.text.causal
        row = torch.tensor(rows[clip.text.reads], device=clip.token_embedding.weight.device)
        self.register_buffer("eot", row, persistent=False)
        alone = clip.text.causal and layout[0][0] == "start"
        self.register_buffer("opening", clip.text.opening(self.pieces[0].fixed) if alone else None, persistent=False)

    def index(self, kind: str) -> int:
        """The number of a segment, for deep writes."""
        return [piece.kind for piece in self.pieces].index(kind)

    @property
    def computed(self) -> int:
        """Tokens of a class that run through the tower in full for each image, or more."""
        own = [p.fixed.numel() // p.fixed.shape[-1] for p in self.pieces if p.kind in ("name", "tail")]
        slots = [] if self.causal else [p.fixed.shape[-2] for p in self.pieces if p.slots]
        return -(-sum(own) // len(self.eot)) + sum(slots)

    def forward(self, ctx: Tensor, llm: LowRank | Tensor | None = None) -> list[Segment]:
        """ctx (n, D), (C, n, D) or (B or 1, C or 1, n, D); llm (B or 1, C, L, D) -> the input of the text tower."""
        parts = iter(lead(ctx).split(self.sizes, dim=2))
        content = {"ctx": lambda: next(parts), "llm": lambda: llm}
        segments = [p(ctx.dtype, content[p.kind]() if p.slots else None) for p in self.pieces]
        if self.causal:
            segments[-1] = replace(segments[-1], mask=None)  # nothing looks at it from behind
        if self.opening is not None:
            segments[0] = replace(segments[0], known=[Keys(k, v) for k, v in self.opening])
        return segments


def lead(tokens: Tensor) -> Tensor:
    """(n, D) or (C, n, D) -> (1, C or 1, n, D)."""
    while tokens.dim() < 4:
        tokens = tokens[None]
    return tokens
