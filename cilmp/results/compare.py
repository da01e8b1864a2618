"""Is one trainer better than another? Paired tests, because runs share their seeds' images and their test images.

Over runs: differences of a metric between runs of one setting and seed (t interval, paired t and Wilcoxon).
Per image: accuracy on the same test images (interval and p of a paired bootstrap over images, an image's seeds kept
together; exact McNemar for every seed). p values are Holm-corrected within their column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from cilmp.errors import UserError, brief, nearest
from cilmp.results.answers import Answers, over_seeds, pair
from cilmp.results.runs import data_root, value
from cilmp.results.significance import RESAMPLES, holm, mcnemar, paired, resampled
from cilmp.results.tables import Listing
from cilmp.results.twins import SETTING

OFTEN_ONE = ("source", "classes_of", "split")  # shown where the runs differ in it

Placed = dict[tuple[str, tuple, int], dict]  # (name, setting, seed): the run


def compare(runs: list[dict], favourite: str, metric: str) -> list[Listing]:
    names = {run["name"] for run in runs}
    if favourite not in names:
        raise UserError(f"--compare: no run of '{favourite}' here.{nearest(favourite, names)}")
    placed: Placed = {}
    for run in runs:
        other = placed.setdefault((run["name"], setting(run), run["seed"]), run)
        if other is not run:
            raise UserError(f"--compare: {other['path']} and {run['path']} are one setting: choose with --where.")
    rivals = sorted(names - {favourite})
    if not rivals:
        raise UserError(f"--compare: every run here is of {favourite}; there is nothing to compare it with.")
    return [over_runs(placed, favourite, rivals, metric), per_image(placed, favourite, rivals)]


def setting(run: dict) -> tuple:
    return tuple(run.get(name) for name in SETTING)


def over_runs(placed: Placed, favourite: str, rivals: list[str], metric: str) -> Listing:
    rows: list[tuple[tuple[str, ...], list]] = []
    ps = []
    for rival in rivals:
        pairs = [
            (run, placed[rival, key, seed])
            for (name, key, seed), run in placed.items()
            if name == favourite and (rival, key, seed) in placed
        ]
        differences = np.array([value(a, metric) - value(b, metric) for a, b in pairs])
        differences = differences[~np.isnan(differences)]
        found = (
            paired(differences)
            if len(differences)
            else dict.fromkeys(("mean", "low", "high", "t", "wilcoxon"), math.nan)
        )
        rows.append(((rival,), [len(differences), found["mean"], found["low"], found["high"]]))
        ps.append((found["t"], found["wilcoxon"]))
    notes = ["seeds of one data set share its test images: over few data sets these p values are optimistic"]
    if fixed := [rival for (rival,), (n, _, low, _) in rows if n > 1 and math.isnan(low)]:
        notes.append(f"the differences do not vary over seeds, so nothing can be tested: {', '.join(fixed)}")
    corrected = [holm(column) for column in zip(*ps, strict=True)]
    for (_, cells), *corrected_ps in zip(rows, *corrected, strict=True):
        cells += corrected_ps
    return Listing(
        f"{favourite} minus each, {metric}, paired over (data set, seed)",
        ("against",),
        ("pairs", "difference", "95 % low", "high", "p (t, Holm)", "p (Wilcoxon, Holm)"),
        rows,
        notes=notes,
    )


def per_image(placed: Placed, favourite: str, rivals: list[str]) -> Listing:
    rows: list[tuple[tuple[str, ...], list]] = []
    each, single, notes = [], [], Notes()
    keys = sorted({key for name, key, _ in placed if name == favourite}, key=str)
    shown = [i for i, name in enumerate(SETTING) if name not in OFTEN_ONE or len({key[i] for key in keys}) > 1]
    for key in keys:
        found: dict[str, list[tuple[list[str], np.ndarray]]] = {rival: [] for rival in rivals}
        for seed in sorted(s for name, k, s in placed if name == favourite and k == key):
            run = placed[favourite, key, seed]
            against = {rival: placed[rival, key, seed] for rival in rivals if (rival, key, seed) in placed}
            ours = notes.answers(run) if against else None
            for rival, other in against.items():
                theirs = notes.answers(other)
                if ours and theirs:
                    try:
                        found[rival].append(pair(ours, theirs))
                    except ValueError as error:
                        notes.unpaired(run, other, str(error))
        for rival, pairs in found.items():
            if not pairs:
                continue
            table = over_seeds(pairs)  # (seeds, 2, N)
            if not table.shape[2]:
                notes.lines.append(f"{rival}, {', '.join(map(str, key))}: the seeds share no image path")
                continue
            difference = 100.0 * (table[:, 0].astype(float) - table[:, 1]).mean(0)
            labels = (*(str(key[i]) for i in shown), rival)
            rows.append((labels, [table.shape[2], len(pairs), float(difference.mean())]))
            each.append(difference)
            single.append([mcnemar(ours, theirs) for ours, theirs in table])
    intervals = resampled(each)
    flat = iter(holm([p for row in single for p in row]))
    for (_, cells), p, (low, high, _), row in zip(
        rows, holm([interval[2] for interval in intervals]), intervals, single, strict=True
    ):
        cells += [low, high, p, " ".join(f"{next(flat):.2g}" for _ in row)]
    return Listing(
        f"{favourite} minus each, accuracy, paired over test images",
        (*(SETTING[i] for i in shown), "against"),
        ("images", "seeds", "difference", "95 % low", "high", "p (bootstrap, Holm)", "p of each seed (McNemar, Holm)"),
        rows,
        notes=[*([f"{RESAMPLES:,} resamples"] if rows else []), *notes.told()],
    )


class Notes:
    """Reads runs' answers, and remembers why some are not in the table."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lacking: list[str] = []

    def answers(self, run: dict) -> Answers | None:
        try:
            found = Answers.read(run)
        except UserError as error:
            self.lines.append(str(error))
            return None
        if found is None:
            self.lacking.append(str(run["path"]))
        return found

    def unpaired(self, run: dict, other: dict, why: str) -> None:
        where = [f"{r['path']} (data {data_root(r) or 'in the default folder'})" for r in (run, other)]
        self.lines.append(f"Not paired: {where[0]} and {where[1]} {why}")

    def told(self) -> Iterable[str]:
        yield from self.lines[:10]
        if len(self.lines) > 10:
            yield f"and {len(self.lines) - 10} more such"
        if self.lacking:
            yield f"No predictions.npz in {brief(self.lacking, 3)}: run with TEST.SAVE_PREDICTIONS True"
