"""Options that are a flag and an environment variable of one name, read and checked alike before anything starts."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from cilmp.errors import UserError


def add(
    parser: argparse.ArgumentParser,
    name: str,
    help: str = "",
    kind: Callable[[str, str], Any] = lambda name, text: text,
    default: Any = None,
    many: bool = False,
) -> None:
    """--<name> and <NAME>; kind(name, word) gives the value of a word or raises UserError.  Empty <NAME>: not given."""

    def value(word: str) -> Any:
        return kind(name, word)

    if text := os.environ.get(name.upper(), "").strip():
        default = [value(word) for word in words(text)] if many else value(text)
    parser.add_argument(f"--{name}", type=value, nargs="+" if many else None, default=default, help=help)


def whole(least: int, most: int | None = None, besides: dict[int, str] | None = None) -> Callable[[str, str], int]:
    """A whole number from `least` on; besides: other numbers that mean something, and what."""
    others = besides or {}
    told = f"{least} to {most}" if most is not None else f"{least} or more"
    told += "".join(f", or {number} for {meaning}" for number, meaning in others.items())

    def kind(name: str, word: str) -> int:
        with contextlib.suppress(ValueError):
            number = int(word)
            if number in others or least <= number <= (math.inf if most is None else most):
                return number
        raise UserError(f"--{name} (or {name.upper()}) cannot be '{word}': a whole number, {told}.")

    return kind


def one_of(*choices: str) -> Callable[[str, str], str]:
    def kind(name: str, word: str) -> str:
        if word not in choices:
            raise UserError(f"--{name} (or {name.upper()}) cannot be '{word}': one of {', '.join(choices)}.")
        return word

    return kind


def command(name: str, line: str) -> list[str]:
    """Words as a shell splits them."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UserError(f"--{name} (or {name.upper()}) cannot be '{line}': {str(error).lower()}.") from None


def once(name: str, values: Sequence[object]) -> None:
    """UserError for a value that is named twice: one run would count as two."""
    for value, count in Counter(values).items():
        if count > 1:
            raise UserError(f"{name} has {value} {count} times: once is enough.")


def words(text: str | None) -> list[str]:
    return (text or "").replace(",", " ").split()
