"""One self-contained HTML file of everything a folder of runs tells; opens offline, reads on a phone, prints.

cilmp report output --out report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cilmp.analysis import charts, log, page
from cilmp.analysis.mistakes import thumbnail, worst
from cilmp.errors import exit_on_user_error
from cilmp.files import write_text
from cilmp.results import metrics
from cilmp.results.predictions import Predictions
from cilmp.results.protocols import at_home, base2new, tables_of
from cilmp.results.runs import collect, in_order, pivot, where
from cilmp.results.significance import compare

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
    add("--compare", metavar="TRAINER", help="add paired significance of this trainer against the others")
    add("--root", default="", help="where images are that are not at the path their run saw")
    add("--mistakes", type=int, default=6, help="images a trainer in the gallery")
    add("--title", default="Prompt learning: report of finished runs")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs, damaged = collect(args.folder)
    for line in damaged:
        print(f"note: {line}", file=sys.stderr)
    runs = where(runs, args.where)
    sections = [
        ("Tables", tables(runs, args.metric, damaged)),
        ("Few-shot curves", few_shot(runs, args.metric)),
        ("Base and new classes", base_new(runs, args.metric)),
        ("Significance", significance(runs, args.compare, args.metric)),
        ("Confusion", confusion(runs)),
        ("Reliability", reliability(runs)),
        ("Learning curves", learning(runs)),
        ("Most confident mistakes", mistakes(runs, args.root, args.mistakes)),
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
    return "".join(map(page.table, found)) + "".join(
        f'<p class="quiet">Not read: {page.escape(d)}</p>' for d in damaged
    )


def groups(runs: list[dict]) -> Iterator[Group]:
    """Runs that differ in trainer and seed alone; of several shot counts the largest."""
    for data in in_order(runs, "dataset"):
        for source in in_order(runs, "source"):
            for classes in in_order(runs, "classes"):
                here = [r for r in runs if (r["dataset"], r["source"], r["classes"]) == (data, source, classes)]
                if not here:
                    continue
                shots = in_order(here, "shots")[-1]
                here = [run for run in here if run["shots"] == shots]
                named = {n: [r for r in here if r["name"] == n] for n in in_order(here, "trainer")}
                title = f"{data}, {classes} classes, {'all images' if shots == -1 else f'{shots} shots'}"
                yield title + (f", trained on {source}" if source else ""), named


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


def significance(runs: list[dict], favourite: str | None, metric: str) -> str:
    return "".join(map(page.table, compare(runs, favourite, metric))) if favourite else ""


def predicted(named: dict[str, list[dict]]) -> dict[str, list[Predictions]]:
    """{trainer: predictions of its seeds}, where they were saved."""
    found = {name: [p for run in runs if (p := Predictions.read(run["path"]))] for name, runs in named.items()}
    return {name: seeds for name, seeds in found.items() if seeds}


def confusion(runs: list[dict]) -> str:
    parts = []
    for title, named in groups(runs):
        if found := predicted(named):
            names = next(iter(found.values()))[0].classnames
            counts = {
                name: sum(metrics.confusion(p.predicted, p.labels, len(names)) for p in seeds)
                for name, seeds in found.items()
            }
            pictures = {
                f"Confusion matrix of {name}, {title}": charts.svg(charts.confusion_matrix(name, matrix, names))
                for name, matrix in counts.items()
            }
            parts.append(page.figure(title, pictures, "Percent of each true class, summed over seeds."))
    return "".join(parts)


def reliability(runs: list[dict]) -> str:
    parts = []
    for title, named in groups(runs):
        if found := predicted(named):
            pictures = {}
            for name, seeds in found.items():
                both = np.concatenate([p.probabilities for p in seeds]), np.concatenate([p.labels for p in seeds])
                error = metrics.expected_calibration_error(*both)
                drawn = charts.svg(charts.reliability(name, metrics.calibration(*both), error))
                pictures[f"Reliability diagram of {name}, {title}"] = drawn
            caption = "Accuracy in 15 bins of confidence, all seeds together; dots at a bin's mean confidence."
            parts.append(page.figure(title, pictures, caption))
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


def mistakes(runs: list[dict], root: str, count: int) -> str:
    parts = []
    for title, named in groups(runs):
        for name, seeds in predicted(named).items():
            found = worst(seeds, count)
            items = []
            for m in found:
                truth = f"truth: {m.truth} ({100 * m.truth_had:.0f} %)"
                items.append(
                    (
                        thumbnail(m.path, root),
                        m.path,
                        (truth, f"predicted: {m.prediction} ({100 * m.confidence:.0f} %)"),
                    )
                )
            if items:
                parts.append(f"<h3>{page.escape(f'{name}: {title}')}</h3>{page.gallery(items)}")
    said = '<p class="quiet">Probabilities are means over seeds.</p>'
    return said + "".join(parts) if parts else ""


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
        rows.append([name, len(mine), ", ".join(trained), cost, ", ".join(where), ", ".join(code), options,
                     ", ".join(sorted(versions))])  # fmt: skip
    head = ["trainer", "runs", "trained parameters", "seconds a run", "device", "commit", "options", "versions"]
    return page.definitions(rows, head)


if __name__ == "__main__":
    exit_on_user_error(main)
