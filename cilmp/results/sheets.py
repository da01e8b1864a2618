"""CSV that people open in a spreadsheet: a name from a data set is text there, never a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from typing import IO, Any

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
# At the start of a cell, also of one that a spreadsheet splits off where its list separator is a semicolon or a tab;
# full-width signs count as the plain ones in some languages.
FORMULA = re.compile(r"^(?=\s*[=+\-@＝＋－＠]|\t)|(?<=[;\t])(?=\s*[=+\-@＝＋－＠])")


def writer(file: IO[str]) -> Callable[[Iterable[Any]], Any]:
    """Writes a row to the file, with an apostrophe before what would be a formula."""
    write = csv.writer(file, lineterminator="\n").writerow
    return lambda row: write([harmless(cell) for cell in row])


def harmless(cell: Any) -> Any:
    """A number as it is, also a written one; else text on one line, because a lone carriage return begins a row."""
    if isinstance(cell, (int, float)) or NUMBER.fullmatch(str(cell)):
        return cell
    line = re.sub(r"[\r\n]+", " ", str(cell))
    return FORMULA.sub("'", line.encode(errors="backslashreplace").decode())  # names of files need not be Unicode
