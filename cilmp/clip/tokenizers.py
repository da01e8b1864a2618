"""From text to token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cilmp.errors import UserError


class Tokenizer(Protocol):
    """What prompts are made with.  A text is framed: `start` ids, its own, `end` ids."""

    context: int  # positions the tower reads, frame included
    start: int  # ids before the text
    end: int  # ids behind it
    placeholder: str  # a word of one token, which stands where a learned token will

    def encode(self, text: str) -> list[int]:
        """The ids of a text in its frame.  UserError where it is longer than the context."""


@dataclass(frozen=True)
class BytePairs:
    """OpenAI's: SOS, the byte-pair tokens of the text in lower case, EOS, whose id is the largest."""

    context: int = 77
    start: int = 1
    end: int = 1
    placeholder: str = "X"

    def encode(self, text: str) -> list[int]:
        import clip

        try:
            row = clip.tokenize(text, context_length=self.context)[0]
        except RuntimeError:
            raise UserError(f"'{text}' is longer than the {self.context} tokens CLIP reads: shorten it.") from None
        return row[: int(row.argmax()) + 1].tolist()


def padded(ids: Sequence[Sequence[int]], length: int) -> Tensor:
    """(len(ids), length), zeros behind."""
    rows = torch.zeros(len(ids), length, dtype=torch.long)
    for row, item in zip(rows, ids, strict=True):
        row[: len(item)] = torch.tensor(item, dtype=torch.long)
    return rows
