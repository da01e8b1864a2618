"""Tables from the records of finished runs, never from logs.

python -m cilmp.results output                                   the tables the runs found there make
python -m cilmp.results output --table base2new --format latex   base, new and their harmonic mean
python -m cilmp.results output --rows trainer --columns dataset --metric auroc --where shots=16 classes=all
python -m cilmp.results output --compare CILMP                   paired significance against every other trainer
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cilmp import records
from cilmp.errors import UserError, exit_on_user_error, nearest
from cilmp.jobs import IRRELEVANT
from cilmp.tables import FORMATS, Cell, Table

FOUR = ("accuracy", "macro_f1", "auroc", "kappa")  # the paper's
LOWER = ("ece", "seconds", "peak_memory_mb", "trainable_parameters")  # less is better
ORDER = ("ZeroshotCLIP", "ZeroshotCLIP2", "LinearProbe", "CoOp", "CoCoOp", "MaPLe", "CILMP", "FullFineTune")


def collect(folder: str | Path) -> tuple[list[dict], list[str]]:
    """Every run under a folder, each with its `path` and `source` (the set its prompts were trained on, where that
    is another than the tested one), and a line for each record that cannot be read."""
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
    """Records with their `path` -> the same with `source` and `name`."""
    versions = {run["version"]: run["path"] for run in runs}
    if len(versions) > 1:
        where = ", ".join(f"version {v} in {path}" for v, path in sorted(versions.items(), key=str))
        raise UserError(
            f"Records whose metrics are defined differently do not share a table ({where}): redo the older."
        )
    trained = {run["path"].parts[-4:]: run["dataset"] for run in runs}
    for run in runs:
        origin = trained.get(Path(run.get("model_dir") or "-").parts[-4:], run["dataset"])
        run["source"] = "" if origin == run["dataset"] else origin
    return tell_apart(runs)


def tell_apart(runs: list[dict]) -> list[dict]:
    """`name`: the trainer; its config or backbone too where one trainer comes with several, and the options that
    differ between runs which would otherwise fall into one cell."""
    for run in runs:
        run["name"] = run["trainer"]
    for key in ("config", "backbone"):
        seen: dict[str, set] = {}
        for run in runs:
            seen.setdefault(run["trainer"], set()).add(run.get(key))
        for run in runs:
            run["name"] += f" [{run.get(key)}]" if len(seen[run["trainer"]]) > 1 else ""
    cells: dict[tuple, list[dict]] = {}
    for run in runs:
        place = tuple(run.get(key) for key in ("name", "dataset", "source", "classes", "split", "shots", "seed"))
        cells.setdefault(place, []).append(run.get("options", {}))
    differing: dict[str, set] = {}
    for (name, *_), options in cells.items():
        keys = set().union(*options) - IRRELEVANT
        different = {key for key in keys if any(o.get(key) != options[0].get(key) for o in options)}
        differing.setdefault(name, set()).update(different)
    for run in runs:
        said = [option(key, run.get("options", {}).get(key, "default")) for key in sorted(differing[run["name"]])]
        run["name"] += f" [{', '.join(said)}]" if said else ""
    return runs


def option(key: str, value: object) -> str:
    """TRAINER.CILMP.REPRESENTATIONS, a/b/busi.safetensors -> 'representations busi'."""
    return f"{key.split('.')[-1].lower()} {Path(value).stem if isinstance(value, str) else value}"


def value(run: dict, metric: str) -> float:
    """A metric, or any other number of the record ('seconds.train'); NaN where it does not exist."""
    found = run["metrics"].get(metric, run)
    if found is run:
        for key in metric.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None and metric not in run["metrics"] and metric not in FOUR:
            raise UserError(f"The record in {run['path']} has no '{metric}'.{nearest(metric, run['metrics'])}")
    found = found.get("total") if isinstance(found, dict) else found
    return math.nan if found is None else float(found)


def key(run: dict, name: str) -> object:
    return run["name"] if name == "trainer" else run.get(name)


def rank(item: object) -> tuple:
    """Numbers by size (-1, everything, last), trainers in the order of their papers, other words by the alphabet."""
    if isinstance(item, (int, float)):
        return 0, math.inf if item < 0 else item, ""
    word = str(item)
    first = word.split(" [")[0]
    return 1, ORDER.index(first) if first in ORDER else len(ORDER), word.lower()


def distinct(runs: Iterable[dict], name: str) -> list:
    return sorted({key(run, name) for run in runs}, key=rank)


def cell(runs: Sequence[dict], metric: str, seeds: Iterable[int]) -> Cell:
    """The runs of one cell differ in their seed alone; anything else would be averaged silently."""
    values: dict[int, float] = {}
    for run in runs:
        if run["seed"] in values:
            twins = [r for r in runs if r["seed"] == run["seed"]][:2]
            differing = [
                k for k in ("shots", "classes", "source", "split", "config") if len({r.get(k) for r in twins}) > 1
            ]
            hint = f"differ in {', '.join(differing)}: choose with --where" if differing else "are the same run twice"
            raise UserError(f"Two runs fall into one cell and {hint} ({twins[0]['path']}, {twins[1]['path']}).")
        values[run["seed"]] = value(run, metric)
    values = {seed: v for seed, v in values.items() if not math.isnan(v)}
    return Cell(values, frozenset(seeds), digits=0 if metric == "trainable_parameters" else 2)


def seeds_of(runs: Iterable[dict]) -> frozenset[int]:
    return frozenset(run["seed"] for run in runs)


def spell(name: str, item: object) -> str:
    return "all" if name == "shots" and item == -1 else str(item)


def pivot(runs: list[dict], rows: Sequence[str], columns: str, metric: str, title: str = "") -> Table:
    """Any field down, any field across; "metric" across gives the four of the paper."""
    lines = sorted({tuple(key(run, r) for r in rows) for run in runs}, key=lambda line: [rank(x) for x in line])
    across = list(FOUR) if columns == "metric" else distinct(runs, columns)
    body = []
    for line in lines:
        mine = [run for run in runs if tuple(key(run, r) for r in rows) == line]
        cells = []
        for c in across:
            chosen = mine if columns == "metric" else [run for run in mine if key(run, columns) == c]
            cells.append(cell(chosen, c if columns == "metric" else metric, seeds_of(runs)))
        body.append((tuple(spell(r, x) for r, x in zip(rows, line, strict=True)), cells))
    return Table(
        title=title
        or (f"{', '.join(rows)} by {columns}" if columns == "metric" else f"{metric}: {', '.join(rows)} by {columns}"),
        labels=rows,
        columns=[spell(columns, c) for c in across],
        rows=body,
        lower=metric.split(".")[0] in LOWER and columns != "metric",
        along="row" if columns == "trainer" else "column",
        block=lambda labels: tuple(x for r, x in zip(rows, labels, strict=True) if r != "trainer"),
    )


def harmonic(base: float, new: float) -> float:
    return 2 * base * new / (base + new) if base + new else 0.0


class Harmonic(Cell):
    """H of the two means over seeds, as the field computes it; the deviation is that of each seed's own H."""

    def __init__(self, base: Cell, new: Cell):
        both = base.values.keys() & new.values.keys()
        super().__init__({s: harmonic(base.values[s], new.values[s]) for s in both}, base.seeds | new.seeds)
        if self.values:
            self.mean = harmonic(base.mean, new.mean)


def base2new(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Base, new, H for every data set and, where there are several, for the average over those all trainers have."""
    runs = [run for run in runs if run["classes"] in ("base", "new")]
    tables = []
    for shots in distinct(runs, "shots"):
        here = [run for run in runs if run["shots"] == shots]
        sets, trainers, body = distinct(here, "dataset"), distinct(here, "trainer"), []
        seeds = seeds_of(here)
        found = {}
        for data in sets:
            for trainer in trainers:
                mine = [run for run in here if run["dataset"] == data and run["name"] == trainer]
                found[data, trainer] = [
                    cell([r for r in mine if r["classes"] == c], metric, seeds) for c in ("base", "new")
                ]
                body.append(((data, trainer), [*found[data, trainer], Harmonic(*found[data, trainer])]))
        if len(sets) > 1:
            for trainer in trainers:
                means = [average([found[data, trainer][k] for data in sets], seeds) for k in (0, 1)]
                body.append((("average", trainer), [*means, Harmonic(*means)]))
        tables.append(
            Table(
                f"Base-to-new {metric} in %, {spell('shots', shots)} shots",
                ("dataset", "trainer"),
                ("base", "new", "H"),
                body,
                block=lambda labels: labels[0],
                notes=["H: harmonic mean of the means over seeds; its deviation is that of each seed's H"],
            )
        )
    return tables


def average(cells: Sequence[Cell], seeds: frozenset[int]) -> Cell:
    """Over data sets, seed by seed, of the seeds every one of them has."""
    shared = set.intersection(*(set(c.values) for c in cells))
    return Cell({s: sum(c.values[s] for c in cells) / len(cells) for s in shared}, seeds)


def few_shot(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    runs = [run for run in runs if run["classes"] == "all" and not run["source"]]
    return [
        pivot([r for r in runs if r["dataset"] == data], ["trainer"], "shots", metric, f"{data}: {metric} by shots")
        for data in distinct(runs, "dataset")
    ]


def four(runs: list[dict], metric: str = "") -> list[Table]:
    """The paper's four metrics, for every shot count."""
    runs = [run for run in runs if run["classes"] == "all" and not run["source"]]
    tables = []
    for shots in distinct(runs, "shots"):
        title = f"Four metrics in %, {'all images' if shots == -1 else f'{shots} shots'}"
        tables.append(pivot([r for r in runs if r["shots"] == shots], ["dataset", "trainer"], "metric", "", title))
    return tables


def cross(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Trained on a source, tested on others. What trains nothing has no source and stands in every table."""
    tables = []
    everyone = [run for run in runs if run["classes"] == "all"]
    for source in sorted({run["source"] for run in everyone} - {""}):
        moved = [run for run in everyone if run["source"] == source]
        shots, sets = {run["shots"] for run in moved}, {run["dataset"] for run in moved}
        movers = {run["name"] for run in moved}
        home = [r for r in everyone if not r["source"] and r["dataset"] == source and r["shots"] in shots]
        still = [r for r in everyone if not r["source"] and r["name"] not in movers and r["dataset"] in sets]
        home = [r for r in home if r["name"] in movers | {s["name"] for s in still}]
        table = pivot(moved + home + still, ["trainer"], "dataset", metric, f"{metric} in %, trained on {source}")
        targets = [c for c in table.columns if c != source]
        order = [table.columns.index(c) for c in (source, *targets) if c in table.columns]
        body = []
        for labels, cells in table.rows:
            picked = [cells[i] for i in order]
            mean = average([c for name, c in zip(table.columns, cells, strict=True) if name != source], picked[0].seeds)
            body.append((labels, [*picked, mean]))
        names = [f"{c} (source)" if c == source else c for c in (table.columns[i] for i in order)]
        tables.append(Table(table.title, ["trainer"], [*names, "average of targets"], body))
    return tables


def found(runs: list[dict], metric: str) -> list[Table]:
    """The tables these runs make."""
    tables = base2new(runs, metric) + cross(runs, metric)
    plain = [run for run in runs if run["classes"] == "all" and not run["source"]]
    sources = {run["source"] for run in runs} - {""}
    if len({run["shots"] for run in plain}) > 1:
        tables += few_shot(runs, metric)
    elif not {run["dataset"] for run in plain} <= sources:
        tables += four(runs)
    return tables


TABLES = {"found": found, "base2new": base2new, "few_shot": few_shot, "metrics": four, "cross": cross}


def where(runs: list[dict], conditions: Sequence[str]) -> list[dict]:
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


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", help="folder of runs, searched to any depth for result.json")
    add("--table", choices=TABLES, default="found", help="a table of the field; default: those the runs make")
    add("--rows", help="fields of the record down, separated by commas (trainer, dataset, shots, classes, config ...)")
    add("--columns", help="one field across, or 'metric' for accuracy, macro F1, AUROC and kappa")
    add("--metric", default="accuracy", help="a metric, or another number of the record such as seconds.train")
    add("--where", nargs="+", default=[], metavar="FIELD=VALUE", help="only such runs, e.g. shots=16 classes=all")
    add("--compare", metavar="TRAINER", help="paired tests of this trainer against every other")
    add("--format", choices=FORMATS, default="text")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs, damaged = collect(args.folder)
    for line in damaged:
        print(f"note: {line}", file=sys.stderr)
    runs = where(runs, args.where)
    if args.compare:
        from cilmp.significance import compare

        tables = compare(runs, args.compare, args.metric, value)
    elif args.rows or args.columns:
        tables = [pivot(runs, (args.rows or "trainer").split(","), args.columns or "dataset", args.metric)]
    else:
        tables = TABLES[args.table](runs, args.metric)
    if not tables:
        raise UserError(f"The runs under {args.folder} make no {args.table} table; see --rows and --columns.")
    print("\n".join(table.render(args.format) for table in tables), end="")


if __name__ == "__main__":
    exit_on_user_error(main)
