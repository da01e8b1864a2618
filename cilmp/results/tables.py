"""Tables of means and deviations over seeds, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cilmp.results import sheets

FORMATS = {"text": "simple", "md": "pipe", "latex": "latex_raw", "csv": ""}


@dataclass
class Cell:
    """One number of each seed. `seeds` are those the cell ought to have: what lacks is shown, never averaged over."""

    values: dict[int, float]
    seeds: frozenset[int] = frozenset()
    digits: int = 2
    mean: float = field(init=False)
    std: float = field(init=False)  # ddof = 1: of the population of seeds; NaN for a single seed
    competes: ClassVar[bool] = True  # for bold and underline

    def __post_init__(self) -> None:
        numbers = [self.values[seed] for seed in sorted(self.values)]
        self.mean = statistics.fmean(numbers) if numbers else math.nan
        self.std = statistics.stdev(numbers) if len(numbers) > 1 else math.nan

    @property
    def complete(self) -> bool:
        return bool(self.values) and self.seeds <= set(self.values)

    def text(self, plus_minus: str = "±") -> str:
        if not self.values:
            return "missing"
        shown = f"{self.mean:.{self.digits}f}"
        if not math.isnan(self.std):
            shown += f" {plus_minus} {self.std:.{self.digits}f}"
        return shown if self.complete else f"{shown} ({len(self.values)} of {len(self.seeds)} seeds)"


@dataclass
class Table:
    """rows: (labels, cells). Cells compete for bold and underline down a column within `block` (a function of the
    row's labels), or along a row."""

    title: str
    labels: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[tuple[str, ...], Sequence[Any]]]
    lower: bool = False  # is less better?
    along: str = "column"
    block: Callable[[tuple[str, ...]], object] = lambda labels: None
    notes: Sequence[str] = ()

    def ranks(self) -> dict[tuple[int, int], int]:
        """{(row, column): 0 best, 1 second}, ties sharing; incomplete cells do not compete."""
        groups: dict[object, dict[tuple[int, int], float]] = {}
        for i, (labels, cells) in enumerate(self.rows):
            for j, cell in enumerate(cells):
                group: object = i if self.along == "row" else (j, self.block(labels))
                if cell.competes and cell.complete and not math.isnan(cell.mean):
                    groups.setdefault(group, {})[i, j] = cell.mean
        ranks: dict[tuple[int, int], int] = {}
        for means in groups.values():
            order = sorted(set(means.values()), reverse=not self.lower)
            if len(means) > 1:
                ranks.update((place, order.index(value)) for place, value in means.items() if value in order[:2])
        return ranks

    def render(self, format: str = "text") -> str:
        if format == "csv":
            return self.csv()
        from tabulate import tabulate

        mark, escape = MARKS[format], ESCAPES[format]
        ranks = self.ranks()
        body: list[list[str]] = []
        seen: tuple[str, ...] = ()
        for i, (labels, cells) in enumerate(self.rows):
            # a label that repeats the row above is left out, where that reads as one block
            shown = [escape(a) if k == len(labels) - 1 or labels[: k + 1] != seen[: k + 1] else ""
                     for k, a in enumerate(labels)]  # fmt: skip
            seen = labels
            text = [self.shown(cell, r"$\pm$" if format == "latex" else "±") for cell in cells]
            body.append(shown + [mark[ranks.get((i, j), 2)](t) for j, t in enumerate(text)])
        head = [escape(name) for name in (*self.labels, *self.columns)]
        align = ["left"] * len(self.labels) + ["right"] * len(self.columns)
        drawn = tabulate(body, head, tablefmt=FORMATS[format], colalign=align, disable_numparse=True)
        title = {"text": "{}", "md": "**{}**\n", "latex": "% {}"}[format].format(printable(self.title))
        notes = [f"% {n}" if format == "latex" else n for n in map(printable, (*self.notes, *self.legend(format)))]
        space = "\n\n" if format == "md" else "\n"
        return "\n".join([title, drawn]) + space + space.join(notes) + "\n"

    def shown(self, cell: Any, plus_minus: str) -> str:
        return cell.text(plus_minus)

    def legend(self, format: str) -> list[str]:
        """What the marks mean, where something is marked or has a deviation."""
        return [LEGEND[format]]

    def csv(self) -> str:
        """One line a cell, at full precision."""
        out = io.StringIO()
        write = sheets.writer(out)
        write(["table", *self.labels, "column", "mean", "std", "n", "seeds"])
        for labels, cells in self.rows:
            for name, cell in zip(self.columns, cells, strict=True):
                numbers = [("" if math.isnan(x) else repr(x)) for x in (cell.mean, cell.std)]
                write([self.title, *labels, name, *numbers, len(cell.values), " ".join(map(str, sorted(cell.values)))])
        return out.getvalue()


class Listing(Table):
    """rows: (labels, values): numbers of different kinds, which do not compete."""

    def ranks(self) -> dict:
        return {}

    def shown(self, cell: Any, plus_minus: str) -> str:
        if isinstance(cell, float):
            return "-" if math.isnan(cell) else f"{cell:.3g}" if abs(cell) < 1 else f"{cell:.2f}"
        return str(cell)

    def legend(self, format: str) -> list[str]:
        return []

    def csv(self) -> str:
        out = io.StringIO()
        write = sheets.writer(out)
        write(["table", *self.labels, *self.columns])
        for labels, values in self.rows:
            write([self.title, *labels, *values])
        return out.getvalue()


def printable(text: str) -> str:
    """On one line, and without what a terminal obeys."""
    return "".join(c if c.isprintable() else " " for c in text)


def latex(text: str) -> str:
    """A name as it is written: no command of its own, no formula."""
    return printable(text).translate(LATEX)


def markdown(text: str) -> str:
    return printable(text).replace("|", r"\|").replace("<", "&lt;")


LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
ESCAPES = {"text": printable, "md": markdown, "latex": latex}
MARKS: dict[str, tuple[Callable[[str], str], ...]] = {
    "text": (lambda t: f"{t} *", lambda t: f"{t} '", lambda t: f"{t}  "),
    "md": (lambda t: f"**{t}**", lambda t: f"<u>{t}</u>", str),
    "latex": (lambda t: rf"\textbf{{{t}}}", lambda t: rf"\underline{{{t}}}", str),
}
SPREAD = "mean ± sample standard deviation over seeds (ddof 1)"
LEGEND = {
    "text": f"{SPREAD}; * best, ' second",
    "md": f"{SPREAD}; best bold, second underlined",
    "latex": f"{SPREAD}; best bold, second underlined",
}
