"""From text to token ids."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from cilmp.errors import UserError


class Tokenizer(Protocol):
    """What prompts are made with.  A text is framed: `start` ids, its own, `end` ids."""

    context: int  # positions the tower reads, frame included
    start: int  # ids before the text
    end: int  # ids behind it
    pad: int  # the id that fills up
    placeholder: str  # a word of one token, which stands where a learned token will

    def encode(self, text: str) -> list[int]:
        """The ids of a text in its frame.  UserError where it is longer than the context."""


@dataclass
class BytePairs:
    """OpenAI's: SOS, the byte-pair tokens of the text in lower case, EOS, whose id is the largest."""

    context: int = 77
    start: int = 1
    end: int = 1
    pad: int = 0
    placeholder: str = "X"

    def encode(self, text: str) -> list[int]:
        import clip

        try:
            row = clip.tokenize(text, context_length=self.context)[0]
        except RuntimeError:
            raise too_long(text, self.context) from None
        return row[: int(row.argmax()) + 1].tolist()


@dataclass
class Pieces:
    """Of the `tokenizers` library (WordPiece, SentencePiece); a word may be several pieces.

    clean: prepares a text as those the CLIP was trained on.
    """

    library: Any  # a tokenizers.Tokenizer
    clean: Callable[[str], str]
    context: int
    start: int
    end: int
    pad: int
    placeholder: str = "x"

    def encode(self, text: str) -> list[int]:
        ids = self.library.encode(self.clean(text)).ids
        if len(ids) > self.context:
            raise too_long(text, self.context)
        return ids


def too_long(text: str, context: int) -> UserError:
    return UserError(f"'{text}' is longer than the {context} tokens CLIP reads: shorten it.")


def mended(text: str) -> str:
    """As open_clip prepares texts: Unicode mended, HTML unescaped, white space joined."""
    from clip.simple_tokenizer import basic_clean, whitespace_clean

    return whitespace_clean(basic_clean(text))


def bare(text: str) -> str:
    """As SigLIP's texts: lower case, no punctuation, white space joined."""
    return " ".join(text.translate(str.maketrans("", "", string.punctuation)).lower().split())


def of_folder(folder: Path, context: int, clean: str = "") -> Pieces:
    """The tokenizer in a folder: tokenizer.json, or BERT's vocab.txt.  clean: "canonicalize" is SigLIP's way.

    UserError where there is none that can be read.
    """
    import tokenizers

    said = facts(folder)
    whole, words = folder / "tokenizer.json", folder / "vocab.txt"
    try:
        if whole.is_file():
            library = tokenizers.Tokenizer.from_file(str(whole))
            library.no_truncation()
            library.no_padding()
        elif words.is_file():
            lower = said.get("do_lower_case", True)
            library = tokenizers.BertWordPieceTokenizer(str(words), lowercase=lower)
        else:
            raise UserError(
                f"No tokenizer in {folder}: looked for tokenizer.json and vocab.txt; put the model's own there."
            )
    except UserError:
        raise
    except Exception as error:  # the library has one class for all of its complaints
        raise UserError(f"Cannot read the tokenizer in {folder} ({str(error)[:160]}): fetch it again.") from None
    pad = said.get("pad_token", "[PAD]")
    pad = pad["content"] if isinstance(pad, dict) else pad
    if library.token_to_id(pad) is None:
        raise UserError(f"The tokenizer in {folder} does not know its pad token {pad}: fetch the whole folder again.")
    return framed(library, context, bare if clean == "canonicalize" else mended, pad)


def word_pieces(vocabulary: Sequence[str], context: int) -> Pieces:
    """BERT's, of lower-case words."""
    import tokenizers

    words = {word: i for i, word in enumerate(vocabulary)}
    return framed(tokenizers.BertWordPieceTokenizer(words, lowercase=True), context)


def framed(library: Any, context: int, clean: Callable[[str], str] = mended, pad: str = "[PAD]") -> Pieces:
    """The library's tokenizer, its frame found from what it puts around nothing."""
    frame, one = library.encode("").ids, library.encode("x").ids
    start = next((i for i, (a, b) in enumerate(zip(frame, one, strict=False)) if a != b), len(frame))
    return Pieces(library, clean, context, start, len(frame) - start, library.token_to_id(pad))


def facts(folder: Path) -> dict:
    """What the files beside a tokenizer say of it."""
    said: dict = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                said |= json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError:
                raise UserError(f"{folder / name} is not JSON: fetch it again.") from None
    return said


def padded(ids: Sequence[Sequence[int]], length: int, pad: int = 0) -> Tensor:
    """(len(ids), length), the pad id behind."""
    rows = torch.full((len(ids), length), pad, dtype=torch.long)
    for row, item in zip(rows, ids, strict=True):
        row[: len(item)] = torch.tensor(item, dtype=torch.long)
    return rows
