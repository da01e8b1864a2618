"""Which runs may share a cell of a table: the seeds of one setting, tested on one data set, each counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cilmp.errors import brief
from cilmp.results import records

# what runs share that differ in trainer and seed alone
SETTING = ("dataset", "source", "classes_of", "classes", "split", "shots")
OF_CELL = ("name", *SETTING)


def once(runs: Iterable[dict]) -> tuple[list[dict], list[str]]:
    """(the runs without those that are another again, a line that names these).

    Again: the same setting, seed, options, files and numbers, as where a grid has the default among its values.  Of
    other numbers it is kept, and refused by the table that they would share.
    """
    seen: dict[tuple, list[tuple]] = {}
    kept: list[dict] = []
    again: list[dict] = []
    for run in runs:
        there, this = seen.setdefault((*(run.get(name) for name in OF_CELL), run["seed"]), []), decided(run)
        (again if this in there else kept).append(run)
        there.append(this)
    if not again:
        return kept, []
    where = brief([run["path"] for run in again], 3)
    return kept, [f"not counted, as another run has the same setting, options, files and numbers: {where}"]


def decided(run: dict) -> tuple:
    """What decides a run's numbers, its setting and seed aside, and the numbers."""
    options = {key: value for key, value in run.get("options", {}).items() if key not in records.IRRELEVANT}
    return options, run.get("made_from", {}), run.get("per_class", {}), run["metrics"]


def apart(runs: Sequence[dict]) -> tuple[str, list[dict]]:
    """(why these runs do not share a cell, two that show it); ('', []) where they do.

    What a record does not state tells nothing: of an earlier version, or of a run that failed.
    """
    pairs = {name: pair for name in OF_CELL if (pair := unlike(runs, [run.get(name) for run in runs]))}
    if pairs:
        return f"differ in {', '.join(pairs)}: choose with --where", next(iter(pairs.values()))
    names = [frozenset(run.get("per_class", {})) or None for run in runs]
    hashes = [run.get("made_from", {}).get("split") or None for run in runs]
    for what, values in (("classes", names), ("split files", hashes)):
        if pair := unlike(runs, values):
            called = f"both called {pair[0]['dataset']}, of different {what}"
            return f"are of different data, {called}: read the folder of one alone", pair
    numbered: dict[int, dict] = {}
    for run in runs:
        other = numbered.setdefault(run["seed"], run)
        if other is not run:
            return "are the same run twice: delete one of them", [other, run]
    return "", []


def unlike(runs: Sequence[dict], values: Sequence[object]) -> list[dict]:
    """Two runs whose values differ; [] where all that are known are equal."""
    known = [(run, value) for run, value in zip(runs, values, strict=True) if value is not None]
    return next(([known[0][0], run] for run, value in known if value != known[0][1]), [])
