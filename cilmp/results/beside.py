"""Ours beside published figures: the cells that match in method, backbone, data sets, protocol, shots, classes, metric.

What lies on other data, or was tested on another split, is never shown as if it were the same; what differs in one
thing alone is counted and named below the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cilmp.errors import brief, nearest
from cilmp.results import published
from cilmp.results.protocols import Harmonic, average
from cilmp.results.published import Figure
from cilmp.results.runs import FOUR_METRICS, cell, note, protocol_of, seeds_of, spell
from cilmp.results.tables import Cell, Listing, Table

HELP = "published figures beside ours: those that ship, or of a CSV with the same columns"
LABELS = ("paper", "data", "trainer", "shots", "classes", "metric")
COLUMNS = ("ours", "ours ±", "theirs", "theirs ±", "difference", "beyond", "differs")
BEYOND = (
    "±: deviation over seeds; beyond: the difference exceeds two deviations, which is twice the root of the summed "
    "squares of both (of the one that is known; - where none is), and what rounding hides"
)
HOME = {"few_shot": "at home", "full": "at home"}  # one protocol to a method that trains on no images


class Beside(Listing):
    """All its numbers are percent."""

    def shown(self, cell: Any, plus_minus: str) -> str:
        return f"{cell:.2f}" if isinstance(cell, float) and not math.isnan(cell) else super().shown(cell, plus_minus)


class Setting(NamedTuple):
    """What all runs of a published cell share, their data sets and classes aside."""

    name: str
    backbone: str
    protocol: str
    shots: int
    trains: bool  # on images


Cells = dict[tuple[str, str], list[dict]]  # (data set, classes): the runs


def beside(runs: Sequence[dict], path: str | Path, metric: str = "") -> Listing:
    """path: of published figures; metric: only those in it.  No row where nothing matches: the notes say why."""
    figures, notes = in_metrics(published.read(path), runs, path, metric)
    seeds, ours, near = seeds_of(runs), settings(runs), Near()
    rows, means = [], {}
    for figure in figures:
        for setting, cells in near.matching(figure, ours.get(figure.method, {})):
            mine = filled(figure, cells, seeds)
            if not mine.values:  # the metric does not exist for our runs
                continue
            data = figure.datasets[0]
            if len(figure.datasets) > 1:
                data = f"mean of {len(figure.datasets)}"
                means[figure.paper, figure.datasets] = f"{data} ({figure.paper}): {', '.join(figure.datasets)}"
            shots = "-" if figure.shots is None else spell("shots", figure.shots)
            labels = (figure.paper, data, setting.name, shots, figure.classes, figure.metric)
            rows.append((labels, compared(mine, figure)))
    return Beside("Beside published figures, in %", LABELS, COLUMNS, rows,
                  notes=[*([BEYOND] if rows else []), *means.values(), *near.told(), *notes])  # fmt: skip


def shown(runs: Sequence[dict], path: str | Path, metric: str = "") -> list[Listing]:
    """For a program: the table; where nothing matches none, and why on stderr."""
    table = beside(runs, path, metric)
    if not table.rows:
        note(absent(table))
    return [table] if table.rows else []


def absent(table: Table) -> list[str]:
    """Why it has no row, a line for each reason."""
    first, *others = table.notes or [""]
    return ["no published figure is of the same cells as these runs" + (first and f"; {first}"), *others]


def in_metrics(
    figures: list[Figure], runs: Sequence[dict], path: str | Path, metric: str
) -> tuple[list[Figure], list[str]]:
    """The figures that these runs can be compared with, and why others are not: a line each, for an error would cost
    the tables of the runs."""
    known = set(FOUR_METRICS).union(*(run["metrics"] for run in runs))
    there = {figure.metric for figure in figures}
    if metric and metric not in there:
        return [], [f"{path} holds no figure in {metric}.{nearest(metric, there)}"]
    others = sorted(there - known) if not metric else []
    chosen = [figure for figure in figures if figure.metric in known and metric in ("", figure.metric)]
    names = ({str(run[name]) for run in runs} for name in ("trainer", "dataset", "classes"))
    slips = published.slips(chosen, *names)
    notes = [f"not matched, for letter case and blanks count: {brief(slips)}"] if slips else []
    notes += [f"not compared: figures in {brief(others)}, which these runs do not have"] if others else []
    return chosen, notes


def settings(runs: Iterable[dict]) -> dict[str, dict[Setting, Cells]]:
    """{trainer: {setting: its runs}} of the runs tested at home, on the test split."""
    found: dict[str, dict[Setting, Cells]] = {}
    for run in runs:
        if run["source"] or run.get("split", "test") != "test":
            continue
        trains = (run.get("method") or {}).get("kind") != "zero-shot"
        setting = Setting(run["name"], str(run.get("backbone", "?")), protocol_of(run), run["shots"], trains)
        cells = found.setdefault(run["trainer"], {}).setdefault(setting, {})
        cells.setdefault((run["dataset"], run["classes"]), []).append(run)
    return found


def filled(figure: Figure, cells: Mapping[tuple[str, str], Sequence[dict]], seeds: frozenset[int]) -> Cell:
    """Our cell of a figure; over several data sets the mean, seed by seed."""
    parts = [
        average([cell(cells[data, classes], figure.metric, seeds) for data in figure.datasets], seeds)
        for classes in halves(figure)
    ]
    return Harmonic(*parts) if len(parts) == 2 else parts[0]


def halves(figure: Figure) -> tuple[str, ...]:
    """The classes that our runs must have been tested on."""
    return ("base", "new") if figure.classes == "H" else (figure.classes,)


def compared(ours: Cell, theirs: Figure) -> list:
    known = [s for s in (ours.std, theirs.deviation) if not math.isnan(s)]
    difference = ours.mean - theirs.value
    beyond = "-"
    if known and not math.isnan(difference):
        beyond = "yes" if abs(difference) > 2 * math.hypot(*known) + theirs.rounding else "no"
    n = len(ours.values)
    differs = f"seeds: {n}, theirs {theirs.seeds}" if theirs.seeds not in (None, n) else ""
    return [ours.mean, ours.std, theirs.value, theirs.deviation, difference, beyond, differs]


class Near:
    """Finds the settings that match a figure, and remembers what differs in one thing alone."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], list[str]] = {}  # (what differs, ours): theirs, once a figure

    def matching(self, figure: Figure, ours: Mapping[Setting, Cells]) -> list[tuple[Setting, Cells]]:
        found: list[tuple[Setting, Cells]] = []
        close = []
        for setting, cells in ours.items():
            there = [data for data in figure.datasets if all((data, half) in cells for half in halves(figure))]
            apart = differences(figure, setting, there)
            if not apart:
                found.append((setting, cells))
            elif there and len(apart) == 1:
                close.append(apart[0])
        if close and not found:
            what, theirs, mine = close[0]
            self.seen.setdefault((what, mine), []).append(theirs)
        if figure.shots is None:  # whatever the shots, what does not train gives one number, each variant its own
            found = list({setting.name: (setting, cells) for setting, cells in found}.values())
        return found

    def told(self) -> Iterable[str]:
        for (what, mine), theirs in self.seen.items():
            there = " or ".join(dict.fromkeys(theirs))
            yield f"not shown: {len(theirs)} that differ in {what} alone ({there} there, {mine} here)"


def differences(figure: Figure, setting: Setting, there: Sequence[str]) -> list[tuple[str, str, str]]:
    """(what, theirs, ours) of everything that is not the same; there: the figure's data sets that we have too."""
    asked = [("backbone", figure.backbone, setting.backbone)]
    if figure.shots is None and not setting.trains:
        theirs, ours = (HOME.get(name, name) for name in (figure.protocol, setting.protocol))
        asked.append(("protocol", theirs, ours))
    elif figure.shots == setting.shots:
        asked.append(("protocol", figure.protocol, setting.protocol))
    else:
        theirs = "none" if figure.shots is None else spell("shots", figure.shots)
        asked.append(("shots", theirs, spell("shots", setting.shots)))
    if len(there) < len(figure.datasets):
        asked.append(("data sets", brief(figure.datasets, 3), brief(there, 3)))
    return [both for both in asked if both[1] != both[2]]
