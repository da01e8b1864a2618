"""The tables of the field's protocols: base to new, few-shot, four metrics, cross-dataset, domain generalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cilmp.results.runs import cell, drawn, in_order, less_is_better, pivot, seeds_of, spell
from cilmp.results.tables import Cell, Table


def harmonic(base: float, new: float) -> float:
    return 2 * base * new / (base + new) if base + new else 0.0


class Harmonic(Cell):
    """H of the two means over seeds, as the field computes it; the deviation is that of each seed's own H."""

    def __init__(self, base: Cell, new: Cell) -> None:
        both = base.values.keys() & new.values.keys()
        super().__init__({s: harmonic(base.values[s], new.values[s]) for s in both}, base.seeds | new.seeds)
        if self.values:
            self.mean = harmonic(base.mean, new.mean)


def average(cells: Sequence[Cell], seeds: frozenset[int]) -> Cell:
    """Over data sets, seed by seed, of the seeds every one of them has."""
    shared = set.intersection(*(set(c.values) for c in cells))
    return Cell({s: sum(c.values[s] for c in cells) / len(cells) for s in shared}, seeds)


def base2new(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Base, new, H for every data set and, where there are several, for the average over those all trainers have."""
    runs = [run for run in runs if run["classes"] in ("base", "new")]
    tables = []
    for shots in in_order(runs, "shots"):
        here = [run for run in runs if run["shots"] == shots]
        sets, trainers, seeds = in_order(here, "dataset"), in_order(here, "trainer"), seeds_of(here)
        halves: dict[tuple, list[dict]] = {}
        for run in here:
            halves.setdefault((run["dataset"], run["name"], run["classes"]), []).append(run)
        body, both = [], {}
        for data in sets:
            for trainer in trainers:
                pair = [cell(halves.get((data, trainer, half), ()), metric, seeds) for half in ("base", "new")]
                both[data, trainer] = pair
                body.append(((data, trainer), [*pair, Harmonic(*pair)]))
        if len(sets) > 1:
            for trainer in trainers:
                means = [average([both[data, trainer][k] for data in sets], seeds) for k in (0, 1)]
                body.append((("average", trainer), [*means, Harmonic(*means)]))
        tables.append(
            Table(
                f"Base-to-new {metric} in %, {spell('shots', shots)} shots",
                ("dataset", "trainer"),
                ("base", "new", "H"),
                body,
                lower=less_is_better(metric),
                block=lambda labels: labels[0],
                notes=["H: harmonic mean of the means over seeds; its deviation is that of each seed's H"],
            )
        )
    return tables


def few_shot(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Trainers down, shots across, a table a data set."""
    runs = at_home(runs)
    return [
        pivot([r for r in runs if r["dataset"] == data], ["trainer"], "shots", metric, f"{data}: {metric} by shots")
        for data in in_order(runs, "dataset")
    ]


def four_metrics(runs: list[dict], metric: str = "") -> list[Table]:
    """The paper's four metrics, for every shot count."""
    runs = at_home(runs)
    tables = []
    for shots in in_order(runs, "shots"):
        title = f"Four metrics in %, {drawn(shots)}"
        tables.append(pivot([r for r in runs if r["shots"] == shots], ["dataset", "trainer"], "metric", "", title))
    return tables


def at_home(runs: list[dict]) -> list[dict]:
    """All classes, tested on the data set that they were trained on."""
    return [run for run in runs if run["classes"] == "all" and not run["source"]]


def cross_dataset(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Trained on a source, tested on others, in the classes of each; a table a source and number of shots."""
    return [
        transfer(some, source, metric, f"{metric} in %, trained on {source}, {drawn(shots)}")
        for source, shots, some in by_source([run for run in runs if not run["classes_of"]])
    ]


def domain_generalisation(runs: list[dict], metric: str = "accuracy") -> list[Table]:
    """Trained on a source, tested on the same classes elsewhere; the drop is the source's minus the targets' mean.

    Where a target has no image of some class there is a second table of accuracies, in which those classes are no
    answers either.
    """
    tables = []
    here = [run for run in runs if run["classes_of"] or not run["source"]]
    for source, shots, some in by_source(here):
        title = f"Domain generalisation: {metric} in %, trained on {source}, {drawn(shots)}"
        tables.append(dropping(transfer(some, source, metric, title), source))
        if metric == "accuracy" and any("accuracy_present" in run["metrics"] for run in some):
            present = [run | {"metrics": {metric: narrowed(run["metrics"])} if run["metrics"] else {}} for run in some]
            title += ", where classes without a test image are no answers"
            tables.append(
                transfer(present, source, metric, title)
            )  # no drop: the source has more classes to tell apart
    return tables


def narrowed(metrics: dict) -> float | None:
    return metrics.get("accuracy_present", metrics["accuracy"])


def dropping(table: Table, source: str) -> Table:
    """With the drop, seed by seed; and how to learn whether a target holds images that were trained on."""
    rows = [(labels, [*cells, Drop(cells[0], cells[-1])]) for labels, cells in table.rows]
    targets = [name for name in table.columns[1:-1] if name != namesake(source)]  # which lies in another root
    against = f"cilmp data check {source} --root DATA --against {' '.join(targets)}"
    notes = [f"images in both sets would hide the drop: {against}"] if targets else []
    return Table(table.title, table.labels, [*table.columns, "drop"], rows, lower=table.lower, notes=notes)


class Drop(Cell):
    """Source minus targets, of the seeds that both have.  It is also small where little was learned: no contest."""

    competes = False

    def __init__(self, source: Cell, targets: Cell) -> None:
        both = source.values.keys() & targets.values.keys()
        super().__init__({s: source.values[s] - targets.values[s] for s in both}, source.seeds | targets.seeds)


def by_source(runs: list[dict]) -> list[tuple[str, int, list[dict]]]:
    """(source, shots, the runs of its table): moved, at home, and of what trains nothing, which has no source and
    stands in every table."""
    everyone = [run for run in runs if run["classes"] == "all"]
    home = [run for run in everyone if not run["source"]]
    untaught = [run for run in home if (run.get("method") or {}).get("kind", "") in ("", "zero-shot")]  # "": unknown
    found = []
    for source in sorted({run["source"] for run in everyone} - {""}):
        away = [run for run in everyone if run["source"] == source]
        sets, movers = {run["dataset"] for run in away} - {source}, {run["name"] for run in away}
        for shots in in_order(away, "shots"):
            moved = [run | {"dataset": namesake(source)} if run["dataset"] == source else run
                     for run in away if run["shots"] == shots]  # fmt: skip
            still = [r for r in untaught if r["name"] not in movers and r["dataset"] in sets]
            same = {(r["name"], r["dataset"]) for r in still if r["shots"] == shots}
            still = [r for r in still if r["shots"] == shots or (r["name"], r["dataset"]) not in same]
            names = movers | {r["name"] for r in still}
            taught = [r for r in home if r["dataset"] == source and r["shots"] == shots and r["name"] in names]
            found.append((source, shots, moved + taught + still))
    return found


def namesake(source: str) -> str:
    """A target that is called like its source: FOLDER, with another root."""
    return f"{source} (target)"


def transfer(runs: list[dict], source: str, metric: str, title: str) -> Table:
    """Trainers down; the source, each target and their mean across.  A source without a run here is shown so."""
    table, seeds = pivot(runs, ["trainer"], "dataset", metric, title), seeds_of(runs)
    targets = [name for name in table.columns if name != source]
    body: list[tuple[tuple[str, ...], list[Cell]]] = []
    for labels, cells in table.rows:
        found = dict(zip(table.columns, cells, strict=True))
        there = [found[name] for name in targets]
        body.append((labels, [found.get(source, Cell({}, seeds)), *there, average(there, seeds)]))
    return Table(title, ["trainer"], [f"{source} (source)", *targets, "average of targets"], body, lower=table.lower)


def tables_of(runs: list[dict], metric: str) -> list[Table]:
    """All the tables that these runs make."""
    tables = base2new(runs, metric) + cross_dataset(runs, metric) + domain_generalisation(runs, metric)
    home = at_home(runs)
    sources = {run["source"] for run in runs} - {""}
    if len({run["shots"] for run in home}) > 1:
        tables += few_shot(runs, metric)
    elif not {run["dataset"] for run in home} <= sources:
        tables += four_metrics(runs) if metric == "accuracy" else [pivot(home, ["dataset", "trainer"], "shots", metric)]
    return tables


TABLES: dict[str, Callable[[list[dict], str], list[Table]]] = {
    "all": tables_of,
    "base2new": base2new,
    "few_shot": few_shot,
    "metrics": four_metrics,
    "cross": cross_dataset,
    "domains": domain_generalisation,
}
