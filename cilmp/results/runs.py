"""The finished runs under a folder: their records, what each is called in a table, and any number of theirs."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cilmp.errors import UserError, nearest
from cilmp.results import records
from cilmp.results.tables import Cell, Table
from cilmp.results.twins import OF_CELL, apart, once

FOUR_METRICS = ("accuracy", "macro_f1", "auroc", "kappa")  # the paper's
LESS_IS_BETTER = ("ece", "seconds", "peak_memory_mb", "gflops", "trainable_parameters")
# Parts of a run's folder that tell it wherever the output lies: train_base/BUSI/shots_16/CoOp/tiny/seed1 of base to
# new, BUSI/CoOp/tiny_16shots/seed1 of the other protocols.
TAILS = (6, 5, 4)
# of methods, in the order of a table
KINDS = ("zero-shot", "training-free", "probe", "adapter", "prompt", "fine-tuning")


def collect(folder: str | Path) -> tuple[list[dict], list[str]]:
    """Every run under a folder, each with its `path`, `name`, `source` (the set its prompts were trained on, where that
    is another than the tested one) and `classes_of` (the set whose classes it was tested in, where that is another);
    and a line for each record that cannot be read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"No folder {folder}: give the OUTPUT folder of a sweep.")
    runs, damaged = [], []
    for path in sorted(folder.rglob(records.NAME)):
        try:
            runs.append(records.read(path) | {"path": path.parent})
        except UserError as error:
            damaged.append(str(error))
    if not runs:
        why = f"{len(damaged)} damaged: {damaged[0]}" if damaged else "no run has finished there"
        raise UserError(f"No readable {records.NAME} under {folder} ({why}).")
    return prepare(runs), damaged


def prepare(runs: list[dict]) -> list[dict]:
    """Records with their `path` -> the same with `source`, `classes_of` and `name`."""
    versions = {run["version"]: run["path"] for run in runs}
    if len(versions) > 1:
        where = ", ".join(f"version {v} in {path}" for v, path in sorted(versions.items(), key=str))
        raise UserError(
            f"Records whose metrics are defined differently do not share a table ({where}): redo the older."
        )
    trained = {run["path"].parts[-n:]: run["dataset"] for run in runs for n in TAILS}
    for run in runs:
        parts = Path(run.get("model_dir") or "-").parts
        origin = next((trained[parts[-n:]] for n in TAILS if parts[-n:] in trained), run["dataset"])
        run["classes_of"] = run.get("options", {}).get("DATASET.CLASSES_OF", "")
        run["source"] = run["classes_of"] if origin == run["dataset"] else origin
    return tell_apart(runs)


def tell_apart(runs: list[dict]) -> list[dict]:
    """`name`: the trainer; its config or backbone too where one trainer comes with several, and the options that
    differ between runs which would otherwise fall into one cell."""
    for run in runs:
        run["name"] = run["trainer"]
    for key in ("config", "backbone"):
        several: dict[str, set] = {}
        known = [run for run in runs if key in run]  # a sweep's run that failed has no backbone
        for run in known:
            several.setdefault(run["trainer"], set()).add(run[key])
        for run in known:
            run["name"] += f" [{run[key]}]" if len(several[run["trainer"]]) > 1 else ""
    cells: dict[tuple, list[dict]] = {}
    for run in runs:
        cell = tuple(run.get(key) for key in (*OF_CELL, "seed"))
        cells.setdefault(cell, []).append(run.get("options", {}))
    differing: dict[str, set] = {}
    for (name, *_), options in cells.items():
        keys = set().union(*options) - records.IRRELEVANT
        different = {key for key in keys if any(o.get(key) != options[0].get(key) for o in options)}
        differing.setdefault(name, set()).update(different)
    for name, keys in differing.items():
        mine = [run for run in runs if run["name"] == name]
        told = [options_told(key, [run.get("options", {}).get(key, "default") for run in mine]) for key in sorted(keys)]
        for run, *words in zip(mine, *told, strict=True):
            run["name"] += f" [{', '.join(words)}]" if words else ""
    return runs


def options_told(key: str, values: Sequence[object]) -> list[str]:
    """TRAINER.CILMP.REPRESENTATIONS, [a/busi.safetensors ...] -> ['representations busi' ...]; whole paths where their
    names do not tell them apart."""
    whole = [str(value) for value in values]
    short = [Path(value).stem if isinstance(value, str) else str(value) for value in values]
    chosen = short if len(set(short)) == len(set(whole)) else whole
    return [f"{key.split('.')[-1].lower()} {word}" for word in chosen]


def value(run: dict, metric: str) -> float:
    """A metric, or any other number of the record ('seconds.train'); NaN where it does not exist."""
    found = run["metrics"].get(metric, run)
    if found is run:
        for key in metric.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None and metric not in run["metrics"] and metric not in FOUR_METRICS:
            raise UserError(f"The record in {run['path']} has no '{metric}'.{nearest(metric, run['metrics'])}")
    if isinstance(found, dict):
        found = found.get("total", None if metric == "seconds" else found)
    if not isinstance(found, (int, float, type(None))):
        raise UserError(f"'{metric}' is no number in the record in {run['path']}.{nearest(metric, run['metrics'])}")
    return math.nan if found is None else float(found)


def less_is_better(metric: str) -> bool:
    return metric.split(".")[0] in LESS_IS_BETTER


def protocol_of(run: dict) -> str:
    """As far as a record tells its protocol: what it was tested on another run's prompts for, it does not."""
    if run.get("options", {}).get("DATASET.CLASSES_OF"):
        return "domain_generalisation"
    return "base2new" if run["classes"] in ("base", "new") else "full" if run["shots"] == -1 else "few_shot"


def data_root(run: dict) -> str:
    """The data folder that a run was given; '' where it was given none."""
    return str(run.get("options", {}).get("DATASET.ROOT", ""))


def field(run: dict, name: str) -> object:
    return run["name"] if name == "trainer" else run.get(name)


def in_order(runs: Iterable[dict], name: str) -> list:
    """The different values of a field: numbers by size (-1, everything, last), trainers by the kind and year of their
    method, other words by the alphabet."""
    found = {field(run, name): run.get("method") or {} for run in runs}
    return sorted(found, key=lambda item: order(item, found[item] if name == "trainer" else {}))


def order(item: object, method: dict) -> tuple:
    if isinstance(item, (int, float)):
        return 0, math.inf if item < 0 else item, 0, []
    kind = method.get("kind")
    rank = KINDS.index(kind) if kind in KINDS else len(KINDS)
    words = re.split(r"(\d+\.?\d*)", str(item).lower())  # every second one is a number: rank 4 before rank 16
    return 1, rank, method.get("year") or 9999, [float(w) if i % 2 else w for i, w in enumerate(words)]


def seeds_of(runs: Iterable[dict]) -> frozenset[int]:
    return frozenset(run["seed"] for run in runs)


def cell(runs: Sequence[dict], metric: str, seeds: Iterable[int]) -> Cell:
    """The runs of one cell differ in their seed alone; anything else would be averaged silently."""
    why, pair = apart(runs)
    if why:
        raise UserError(f"Two runs fall into one cell and {why} ({pair[0]['path']}, {pair[1]['path']}).")
    values = {run["seed"]: value(run, metric) for run in runs}
    values = {seed: v for seed, v in values.items() if not math.isnan(v)}
    return Cell(values, frozenset(seeds), digits=0 if metric == "trainable_parameters" else 2)


def spell(name: str, item: object) -> str:
    return "all" if name == "shots" and item == -1 else str(item)


def drawn(shots: int) -> str:
    """Of how many images a class a run was taught, in words."""
    return "all images" if shots == -1 else f"{shots} shots"


def pivot(runs: list[dict], labels: Sequence[str], columns: str, metric: str, title: str = "") -> Table:
    """Any fields down, any field across; "metric" across gives the four of the paper."""
    for name in (*labels, *([] if columns == "metric" else [columns])):
        check_axis(runs, name)
    places = [{item: i for i, item in enumerate(in_order(runs, name))} for name in labels]
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        groups.setdefault(tuple(field(run, name) for name in labels), []).append(run)
    lines = sorted(groups, key=lambda line: [place[item] for place, item in zip(places, line, strict=True)])
    across = list(FOUR_METRICS) if columns == "metric" else in_order(runs, columns)
    body, seeds = [], seeds_of(runs)
    for line in lines:
        cells = []
        for c in across:
            chosen = groups[line] if columns == "metric" else [r for r in groups[line] if field(r, columns) == c]
            cells.append(cell(chosen, c if columns == "metric" else metric, seeds))
        body.append((tuple(spell(name, x) for name, x in zip(labels, line, strict=True)), cells))
    what = f"{', '.join(labels)} by {columns}"
    return Table(
        title=title or (what if columns == "metric" else f"{metric}: {what}"),
        labels=labels,
        columns=[spell(columns, c) for c in across],
        rows=body,
        lower=less_is_better(metric) and columns != "metric",
        along="row" if columns == "trainer" else "column",
        block=lambda line: tuple(x for name, x in zip(labels, line, strict=True) if name != "trainer"),
    )


def check_axis(runs: list[dict], name: str) -> None:
    """UserError for a field that no record has, or that holds more than a word or a number."""
    known = {key for run in runs for key, value in run.items() if isinstance(value, (str, int, float))}
    if name not in known:
        raise UserError(f"--rows and --columns: records have no '{name}' to sort by.{nearest(name, known)}")


def chosen(folder: str | Path, conditions: Sequence[str]) -> tuple[list[dict], list[str]]:
    """For a program: what `collect` finds where all conditions hold, each run once; records that cannot be read, and
    runs that stand there again, are told at once."""
    runs, damaged = collect(folder)
    note(damaged)
    runs, again = once(where(runs, conditions))
    note(again)
    return runs, damaged


def note(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"note: {line}", file=sys.stderr)


def where(runs: list[dict], conditions: Sequence[str]) -> list[dict]:
    """Only the runs that meet FIELD=VALUE[,VALUE], all of them."""
    for condition in conditions:
        name, _, wanted = condition.partition("=")
        if not any(name in run for run in runs):
            raise UserError(f"--where {condition}: records have no '{name}'.{nearest(name, runs[0])}")
        choices = wanted.split(",")
        values = sorted({str(run.get(name)) for run in runs})
        runs = [run for run in runs if str(run.get(name)) in choices]
        if not runs:
            raise UserError(f"--where {condition} leaves no run; {name} is one of {', '.join(values)}.")
    return runs
