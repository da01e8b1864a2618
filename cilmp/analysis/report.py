"""One self-contained HTML file of everything a folder of runs tells; opens offline, reads on a phone, prints.

cilmp report output --out report.html
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cilmp.analysis import charts, log, page, panels, trust
from cilmp.analysis.mistakes import thumbnail, worst
from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import write_text
from cilmp.results import metrics
from cilmp.results.beside import absent, beside
from cilmp.results.compare import compare
from cilmp.results.predictions import Predictions
from cilmp.results.protocols import at_home, base2new, tables_of
from cilmp.results.published import shipped
from cilmp.results.runs import chosen, data_root, drawn, in_order, note, pivot

MANY = 40  # rows of a table that nobody asked for
Group = tuple[str, dict[str, list[dict]]]  # title, {trainer: its runs, one a seed}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="folder of runs")
    add("--out", default="report.html")
    add("--metric", default="accuracy")
    add("--where", nargs="+", default=[], metavar="FIELD=VALUE", help="only such runs, e.g. dataset=BUSI")
    add("--compare", metavar="TRAINER", help="of the paired significance tests (default: the newest method)")
    add("--beside", metavar="FILE", help="published figures (default: those that ship)")
    add("--root", default="", help="where images are that are not at the path their run saw")
    add("--mistakes", type=int, default=6, help="images a trainer in the gallery")
    add("--title", default="Prompt learning: report of finished runs")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs, damaged = chosen(args.folder, args.where)
    figures = published(runs, args.beside)  # before anything that takes long: the file may be of no use
    seen = images(runs, args.root, args.mistakes)
    note(seen.damaged)
    sections = [
        ("Tables", tables(runs, args.metric, damaged + seen.damaged)),
        ("Beside published figures", figures),
        ("Few-shot curves", few_shot(runs, args.metric)),
        ("Base and new classes", base_new(runs, args.metric)),
        ("Significance", significance(runs, args.compare, args.metric)),
        ("Confusion", seen.confusion),
        ("Reliability", seen.reliability),
        ("Risk and coverage", seen.risk),
        ("Prediction sets", seen.sets),
        ("Learning curves", learning(runs)),
        ("Most confident mistakes", seen.mistakes),
        ("Settings", settings(runs)),
    ]
    newest = max(str(run.get("finished", "")) for run in runs)
    subtitle = f"{len(runs)} runs, the last finished {newest or 'at an unknown time'}"
    text = page.page(args.title, subtitle, [section for section in sections if section[1]])
    out = Path(args.out)
    write_text(out, text, mend="check --out")
    print(f"{out}: {len(runs)} runs, {len(text) / 2**20:.1f} MiB")


def tables(runs: list[dict], metric: str, damaged: list[str]) -> str:
    found = tables_of(runs, metric) or [pivot(runs, ["trainer"], "dataset", metric)]
    return "".join(map(page.table, found)) + "".join(page.quiet(f"Not read: {d}") for d in damaged)


def groups(runs: list[dict]) -> Iterator[Group]:
    """Runs that differ in trainer and seed alone; of several shot counts the largest."""
    places = ("dataset", "source", "classes", "split")
    found: dict[tuple, list[dict]] = {}
    for run in runs:
        found.setdefault(tuple(run.get(name) for name in places), []).append(run)
    rank = [{item: i for i, item in enumerate(in_order(runs, name))} for name in places]
    splits = len(rank[3])
    for key in sorted(found, key=lambda key: [order[item] for order, item in zip(rank, key, strict=True)]):
        data, source, classes, split = key
        shots = in_order(found[key], "shots")[-1]
        here = [run for run in found[key] if run["shots"] == shots]
        named = {n: [r for r in here if r["name"] == n] for n in in_order(here, "trainer")}
        title = f"{data}, {classes} classes, {drawn(shots)}"
        title += f", trained on {source}" if source else ""
        yield title + (f", split {split}" if splits > 1 else ""), named


def few_shot(runs: list[dict], metric: str) -> str:
    parts = []
    home = at_home(runs)
    for data in in_order(home, "dataset"):
        here = [run for run in home if run["dataset"] == data]
        shots = in_order(here, "shots")
        if len(shots) < 2:
            continue
        table = pivot(here, ["trainer"], "shots", metric)
        cells = {labels[0]: dict(zip(shots, row, strict=True)) for labels, row in table.rows}
        alt = f"{metric} of each trainer on {data} by training images a class"
        caption = "Mean over seeds; the band is one standard deviation to either side."
        parts.append(page.figure(data, {alt: charts.svg(charts.few_shot_curves(cells, metric))}, caption))
    return "".join(parts)


def base_new(runs: list[dict], metric: str) -> str:
    parts = []
    for table in base2new(runs, metric):
        for data in dict.fromkeys(labels[0] for labels, _ in table.rows):
            cells = {labels[1]: row for labels, row in table.rows if labels[0] == data}
            alt = f"{metric} of each trainer on {data}: base, new and their harmonic mean"
            parts.append(page.figure(data, {alt: charts.svg(charts.base_new_bars(cells, metric))}, table.title))
    return "".join(parts)


def published(runs: list[dict], path: str | None) -> str:
    """Of a file that was asked for, also why it has nothing to show."""
    table = beside(runs, path or shipped())
    return page.table(table) if table.rows else "".join(map(page.quiet, absent(table))) if path else ""


def significance(runs: list[dict], favourite: str | None, metric: str) -> str:
    names = in_order(runs, "trainer")
    if not favourite and len(names) < 2:
        return ""
    years = {run["name"]: run.get("method", {}).get("year") or 0 for run in runs}
    newest = max(reversed(names), key=years.__getitem__)
    over_runs, per_image = compare(runs, favourite or newest, metric)
    if favourite or len(per_image.rows) <= MANY:
        return page.table(over_runs) + page.table(per_image)
    asked = f"--compare {shlex.quote(newest)}"
    rest = f"{asked} shows the {len(per_image.rows)} comparisons over test images too."
    return page.table(over_runs) + page.quiet(rest)


@dataclass
class Images:
    """What predictions tell, as HTML, and a line for each file of them that is left out."""

    confusion: str = ""
    reliability: str = ""
    risk: str = ""
    sets: str = ""
    mistakes: str = ""
    damaged: list[str] = field(default_factory=list)


def images(runs: list[dict], root: str, count: int) -> Images:
    """Group by group, so that each file is read once and few are held."""
    seen = Images()
    for title, named in groups(runs):
        if found := predicted(named, seen.damaged):
            seen.confusion += confusion(title, found)
            seen.reliability += reliability(title, found)
            seen.risk += trust.risk(title, found)
            seen.sets += trust.sets(title, found)
            seen.mistakes += mistakes(title, found, root, count)
    if seen.mistakes:
        seen.mistakes = f'<p class="quiet">Probabilities are means over seeds.</p>{seen.mistakes}'
    return seen


def predicted(named: dict[str, list[dict]], damaged: list[str]) -> dict[str, list[Predictions]]:
    """{trainer: predictions of its seeds}, where they were saved; a line for each that is left out."""
    found: dict[str, list[Predictions]] = {}
    for name, runs in named.items():
        for run in runs:
            try:
                told = Predictions.read(run["path"], data_root(run))
            except UserError as error:
                damaged.append(str(error))
                continue
            if told is None:
                continue
            same = told.like(found[name][0]) if name in found else told
            if same is None:
                damaged.append(f"{run['path']} was tested on other classes than its other seeds: left out of pictures.")
            else:
                found.setdefault(name, []).append(same)
    return found


def confusion(title: str, found: dict[str, list[Predictions]]) -> str:
    pictures = {}
    for name, seeds in found.items():
        names = seeds[0].classnames
        counts = np.sum([metrics.confusion(p.predicted, p.labels, len(names)) for p in seeds], axis=0)
        pictures[f"Confusion matrix of {name}, {title}"] = panels.confusion_matrix(name, counts, names)
    return page.figure(title, pictures, "Percent of each true class, below it images, summed over seeds.")


def reliability(title: str, found: dict[str, list[Predictions]]) -> str:
    pictures = {}
    for name, seeds in found.items():
        both = np.concatenate([p.probabilities for p in seeds]), np.concatenate([p.labels for p in seeds])
        error = metrics.expected_calibration_error(*both)
        drawn = panels.reliability(name, metrics.calibration(*both), error)
        pictures[f"Reliability diagram of {name}, {title}"] = drawn
    caption = "Accuracy in 15 bins of confidence, all seeds together; dots at a bin's mean confidence."
    return page.figure(title, pictures, caption)


def mistakes(title: str, found: dict[str, list[Predictions]], root: str, count: int) -> str:
    parts = []
    for name, seeds in found.items():
        items = []
        for m in worst(seeds, count):
            truth = f"truth: {m.truth} ({100 * m.truth_had:.0f} %)"
            predicted = f"predicted: {m.prediction} ({100 * m.confidence:.0f} %)"
            items.append((thumbnail(m.path, root), m.path, (truth, predicted)))
        if items:
            parts.append(f"<h3>{page.escape(f'{name}: {title}')}</h3>{page.gallery(items)}")
    return "".join(parts)


def learning(runs: list[dict]) -> str:
    parts = []
    for title, named in groups(runs):
        curves = {name: [c for run in seeds if (c := log.losses(run["path"]))] for name, seeds in named.items()}
        curves = {name: seeds for name, seeds in curves.items() if seeds}
        if curves:
            address = charts.svg(charts.learning_curves(curves))
            caption = "Mean over seeds, band from lowest to highest. Losses of different trainers differ in kind."
            parts.append(page.figure(title, {f"Training loss by epoch, {title}": address}, caption))
    return "".join(parts)


def settings(runs: list[dict]) -> str:
    """What the runs of a trainer changed from the defaults, and what they cost."""
    rows = []
    for name in in_order(runs, "trainer"):
        mine = [run for run in runs if run["name"] == name]
        changed = {key: sorted({str(run.get("options", {}).get(key, "default")) for run in mine})
                   for key in sorted({key for run in mine for key in run.get("options", {})})
                   if key not in ("OUTPUT_DIR", "DATASET.ROOT", "SEED")}  # fmt: skip
        options = "; ".join(f"{key} {' | '.join(values)}" for key, values in changed.items())
        seconds = [run["seconds"]["total"] for run in mine if run.get("seconds", {}).get("total") is not None]
        trained = sorted({f"{run['trainable_parameters']:,}" for run in mine if "trainable_parameters" in run})
        where = sorted({str(run.get("device", "?")) for run in mine})
        code = sorted({str(run.get("commit", ""))[:10] for run in mine} - {""})
        versions = {f"{k} {v}" for run in mine for k, v in run.get("versions", {}).items() if v}
        cost = f"{np.mean(seconds):.1f}" if seconds else "?"
        work = [spread(run.get("gflops", {}).get(part) for run in mine) for part in ("forward", "step")]
        rows.append([name, len(mine), ", ".join(trained), *work, cost, ", ".join(where), ", ".join(code), options,
                     ", ".join(sorted(versions))])  # fmt: skip
    head = ["trainer", "runs", "trained parameters", "GFLOP an image", "GFLOP in a step", "seconds a run", "device"]
    head += ["commit", "options", "versions"]
    return page.definitions(rows, head)


def spread(numbers: Iterable[float | None]) -> str:
    """One number, or the range of several; '-' where there is none."""
    found = sorted(number for number in numbers if number is not None)
    return " to ".join(dict.fromkeys(f"{number:.3g}" for number in (found[0], found[-1]))) if found else "-"


if __name__ == "__main__":
    exit_on_user_error(main)
