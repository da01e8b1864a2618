"""'SOS context name . EOS' for every class, as segments of the text tower's sequence.

Axes: C classes, n tokens, D width.  Buffers depend on the class names, so they stay out of a checkpoint and prompts
trained on some classes serve others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cilmp.attention import LowRank, Segment
from cilmp.clip import CLIP
from cilmp.errors import UserError
from cilmp.packing import Packed, Packing

POSITIONS = ("end", "middle", "front")


def context(clip: CLIP, n: int, words: str = "") -> Tensor:
    """(n, D) in the precision of the embedding: the first n tokens of `words`, or N(0, 0.02) where there are none."""
    if words:
        return clip.token_embedding(clip.tokenize([words]))[0, 1 : 1 + n].detach().clone()
    return torch.randn(n, clip.text.width, dtype=clip.token_embedding.weight.dtype) * 0.02


class ClassPrompts(nn.Module):
    """Fixed tokens of every class around the slots a method fills.

    n: context slots.  words: the sentence the class name ends ("a photo of a"); its first n tokens make room for the
    slots, the others stay.  lengths: LLM slots of each class, behind the context.  position: of the class name.
    """

    def __init__(
        self,
        clip: CLIP,
        classnames: Sequence[str],
        n: int,
        words: str = "",
        lengths: Sequence[int] | None = None,
        position: str = "end",
    ):
        super().__init__()
        if position not in POSITIONS:
            raise UserError(f"CLASS_TOKEN_POSITION is '{position}'; choose one of {', '.join(POSITIONS)}.")
        names = [name.replace("_", " ") for name in classnames]
        words = words.replace("_", " ") or " ".join(["X"] * n)
        said = clip.tokenize([f"{words} {name}." for name in names], cut=False)
        device, width = clip.token_embedding.weight.device, clip.text.width
        llm = list(lengths) if lengths is not None else [0] * len(names)

        # pieces: each class's token ids, or the number of slots
        rest = [ids[1 + n :] for ids in said]  # name . EOS (and what `words` says beyond the n slots)
        sos = [ids[:1] for ids in said]
        pieces: list[tuple[str, list]] = [("sos", sos)]
        if position == "end":
            pieces += [("ctx", [n] * len(names))]
            if lengths is not None:
                pieces += [("llm", llm)]
            pieces += [("tail", rest)]
        else:
            size = [len(clip.tokenize([name], cut=False)[0]) - 2 for name in names]  # without SOS and EOS
            half = n // 2 if position == "middle" else 0
            front = [("ctx", [half] * len(names))] if half else []
            pieces += [*front, ("name", [r[:k] for r, k in zip(rest, size, strict=True)])]
            pieces += [("ctx", [n - half] * len(names)), ("tail", [r[k:] for r, k in zip(rest, size, strict=True)])]

        self.kinds, self.width = [kind for kind, _ in pieces], width
        self.ctx_splits = [items[0] for kind, items in pieces if kind == "ctx"]
        self.packings = nn.ModuleDict()
        start = torch.zeros(len(names), dtype=torch.long)
        for index, (_kind, items) in enumerate(pieces):
            counts = torch.tensor([item if isinstance(item, int) else len(item) for item in items])
            most = int(counts.max())
            where = start[:, None] + torch.arange(most)  # (C, n)
            full = start + counts
            if int(full.max()) > clip.context:
                worst = int(full.argmax())
                raise UserError(
                    f"The prompt of class '{classnames[worst]}' needs {int(full.max())} tokens and CLIP reads "
                    f"{clip.context}: shorten the class name, the context (N_CTX) or the LLM representation."
                )
            tokens = clip.text.positional_embedding[where.clamp(max=clip.context - 1).to(device)]  # (C, n, D)
            if not isinstance(items[0], int):
                ids = torch.zeros(len(names), most, dtype=torch.long)
                for row, item in zip(ids, items, strict=True):
                    row[: len(item)] = torch.tensor(item)
                tokens = tokens + clip.token_embedding(ids.to(device))
            ragged = bool((counts != most).any())
            slots = isinstance(items[0], int)
            if bool((tokens == tokens[:1]).all()):
                tokens = tokens[:1]  # the same for every class
            tokens = tokens.detach().reshape(1, -1, most, width)
            if ragged and not slots:
                self.packings[str(index)] = packing = Packing(counts).to(device)
                tokens = packing.whole.pack(tokens.expand(-1, len(names), -1, -1))
            self.register_buffer(f"piece{index}", tokens, persistent=False)
            self.register_buffer(f"counts{index}", counts.to(device) if ragged else None, persistent=False)
            start = full
        self.register_buffer("eot", (counts - 1).to(device), persistent=False)  # (C,), the row in the last segment

    def place(self, kind: str) -> int:
        """The index of a segment, for deep writes."""
        return self.kinds.index(kind)

    @property
    def computed(self) -> int:
        """Tokens of a class that run through the tower in full for each image."""
        sizes = {kind: getattr(self, f"piece{i}").numel() // self.width for i, kind in enumerate(self.kinds)}
        return -(-sum(n for kind, n in sizes.items() if kind in ("name", "tail")) // len(self.eot))

    def forward(self, ctx: Tensor, llm: LowRank | Tensor | None = None) -> list[Segment]:
        """ctx (n, D), (C, n, D) or (B or 1, C or 1, n, D); llm (B or 1, C, L, D) -> the input of the text tower."""
        parts = list(lead(ctx).split(self.ctx_splits, dim=2))
        segments = []
        for index, kind in enumerate(self.kinds):
            fixed, counts = getattr(self, f"piece{index}"), getattr(self, f"counts{index}")
            mask = None
            if kind == "ctx":
                part = parts.pop(0)
                x = part + fixed.to(part.dtype)
            elif kind == "llm":
                x = LowRank(llm.z, llm.basis, fixed) if isinstance(llm, LowRank) else llm + fixed.to(llm.dtype)
                if counts is not None:
                    mask = torch.arange(fixed.shape[2], device=fixed.device) < counts[:, None]
            elif counts is not None:
                packing = self.packings[str(index)]
                x = Packed(fixed.to(ctx.dtype), packing)
                mask = packing.mask if index + 1 < len(self.kinds) else None  # nothing looks at the tail from behind
            else:
                x = fixed.to(ctx.dtype)
            segments.append(Segment(x, mask))
        return segments


def lead(tokens: Tensor) -> Tensor:
    """(n, D) or (C, n, D) -> (1, C or 1, n, D)."""
    while tokens.dim() < 4:
        tokens = tokens[None]
    return tokens
