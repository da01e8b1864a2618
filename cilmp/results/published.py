"""Published figures, one a row of a CSV; docs/published.csv ships, and docs/results.md tells its columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cilmp import yamls
from cilmp.errors import UserError
from cilmp.results.runs import LESS_IS_BETTER


class Figure(NamedTuple):
    """One number of a paper, in the words of a run's record."""

    paper: str
    source: str  # where in the paper
    method: str
    backbone: str
    datasets: tuple[str, ...]  # several: it is the mean over them
    protocol: str
    shots: int | None  # images a class, -1: all; None: the method trains on none
    classes: str
    metric: str
    value: float  # %
    deviation: float  # over seeds, %; NaN where it is not told
    seeds: int | None
    rounding: float  # how far the value may lie from the number that it was written from


class Number(NamedTuple):
    kind: Callable[[str], float]
    fits: Callable[[float], bool]
    told: str


NUMBERS = {
    "shots": Number(int, lambda n: n > 0 or n == -1, "a whole number from 1 on, or -1 for all"),
    "value": Number(float, lambda x: -100 <= x <= 100, "a number of percent"),
    "deviation": Number(float, lambda x: 0 <= x < math.inf, "a number from 0 on"),
    "seeds": Number(int, lambda n: n > 0, "a whole number from 1 on"),
}
MAY_BE_EMPTY = ("shots", "deviation", "seeds")
COLUMNS = ("paper", "source", "method", "backbone", "dataset", "protocol", "shots", "classes", "metric", "value",
           "deviation", "seeds")  # fmt: skip


def shipped() -> Path:
    return yamls.home("docs") / "published.csv"


def read(path: str | Path) -> list[Figure]:
    """UserError names the first line that is none."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            found = list(figures(path, csv.DictReader(file, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"Cannot read published figures from {path} ({why}): give a CSV in UTF-8.") from None
    if not found:
        raise UserError(f"{path} holds no figure below its first line.")
    for metric in dict.fromkeys(figure.metric for figure in found):
        values = [figure.value for figure in found if figure.metric == metric]
        if metric not in LESS_IS_BETTER and any(values) and all(abs(value) <= 1 for value in values):
            raise UserError(f"{path}: no {metric} exceeds 1, as fractions do not: write percent, 80.2 for 0.802.")
    return found


def figures(path: str | Path, rows: csv.DictReader) -> Iterator[Figure]:
    lacking = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if lacking:
        raise UserError(
            f"{path} lacks the columns {', '.join(lacking)}: its first line must name {', '.join(COLUMNS)}."
        )
    if len(set(rows.fieldnames or ())) < len(rows.fieldnames or ()):
        raise UserError(f"{path} names a column twice in its first line.")
    for row in rows:
        try:
            yield figure(row)
        except ValueError as error:
            raise UserError(f"{path}, line {rows.line_num}: {error}.") from None


def figure(row: dict[Any, Any]) -> Figure:
    """ValueError says what is wrong."""
    if None in row or None in row.values():
        raise ValueError("not as many fields as in the first line (a field that holds a comma needs quotes)")
    words = {name: row[name].strip() for name in COLUMNS}
    for name, word in words.items():
        if not word and name not in MAY_BE_EMPTY:
            raise ValueError(f"{name} is empty")
    parts = [name.strip() for name in words["dataset"].split("+")]
    if len(set(parts)) < len(parts):
        raise ValueError(f"dataset names a set twice, '{words['dataset']}', which is no mean over {len(parts)}")
    decimals = len(words["value"].partition(".")[2])
    numbers: dict[str, Any] = {name: number(name, words[name]) for name in NUMBERS if words[name]}
    return Figure(
        paper=words["paper"],
        source=words["source"],
        method=words["method"],
        backbone=words["backbone"],
        datasets=tuple(name.strip() for name in words["dataset"].split(" + ")),
        protocol=words["protocol"],
        shots=numbers.get("shots"),
        classes=words["classes"],
        metric=words["metric"],
        value=numbers["value"],
        deviation=numbers.get("deviation", math.nan),
        seeds=numbers.get("seeds"),
        rounding=0.5 * 10**-decimals,
    )


def number(name: str, word: str) -> float:
    asked = NUMBERS[name]
    try:
        value = asked.kind(word)
    except ValueError:
        value = math.nan
    if not asked.fits(value):  # a comparison with NaN is false
        raise ValueError(f"{name} is '{word}', not {asked.told}")
    return value


def slips(figures: Iterable[Figure], methods: set[str], datasets: set[str], classes: set[str]) -> list[str]:
    """'method coop (CoOp here)' of every name that is one of ours but for letter case or blanks."""
    ships = {name for figure in read(shipped()) for name in figure.datasets}  # KVASIR and Kvasir are two
    method, part, half = ({folded(name): name for name in known} for known in (methods, datasets, classes | {"H"}))
    found: dict[str, None] = {}
    for figure in figures:
        data = " + ".join(figure.datasets)
        parts = [p if p in ships | datasets else part.get(folded(p), "") for p in map(str.strip, data.split("+"))]
        named = (
            ("method", figure.method, method.get(folded(figure.method))),
            ("dataset", data, " + ".join(parts) if all(parts) else None),
            ("classes", figure.classes, half.get(folded(figure.classes))),
        )
        found |= {f"{what} {theirs} ({ours} here)": None for what, theirs, ours in named if ours not in (None, theirs)}
    return list(found)


def folded(name: str) -> str:
    return "".join(name.split()).casefold()
