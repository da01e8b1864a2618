"""Is one trainer better than another? Paired tests, because runs share their seeds' images and their test images.

Over runs: differences of a metric between runs that agree in all but the trainer (t interval, paired t and Wilcoxon).
Per image: accuracy on the same test images (interval and p of a paired bootstrap over images, an image's seeds kept
together; exact McNemar for every seed). p values are Holm-corrected within their column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cilmp.errors import UserError, nearest
from cilmp.results.predictions import both_correct
from cilmp.results.runs import value
from cilmp.results.tables import Listing

RESAMPLES = 10_000
SETTING = ("dataset", "classes", "shots")


def holm(p: Sequence[float]) -> list[float]:
    """Step-down correction. Holm, Scand. J. Statist. 6 (1979). NaN stays NaN and does not count."""
    p = np.asarray(p, float)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    corrected, worst = np.full(len(p), np.nan), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, (len(order) - rank) * p[i])
        corrected[i] = min(1.0, worst)
    return corrected.tolist()


def paired(differences: np.ndarray) -> dict[str, float]:
    """Of paired differences (n,): mean, 95 % t interval, p of the paired t test and of the exact Wilcoxon test."""
    from scipy import stats

    n = len(differences)
    mean = float(np.mean(differences)) if n else math.nan
    if n < 2:
        return dict(mean=mean, low=math.nan, high=math.nan, t=math.nan, wilcoxon=math.nan)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    t = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    signed = float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0
    return dict(mean=mean, low=mean - reach, high=mean + reach, t=t, wilcoxon=signed)


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Exact two-sided p that images only one of the two gets right (N,) fall to either by a coin."""
    from scipy.stats import binomtest

    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    discordant = only_ours + only_theirs
    return float(binomtest(only_ours, discordant).pvalue) if discordant else 1.0


def bootstrap(differences: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of per-image differences (N,) resampled over images: 95 % percentile interval and two-sided p."""
    rng, n = np.random.default_rng(seed), len(differences)
    chunk = max(1, 10_000_000 // n)
    means = []
    for start in range(0, RESAMPLES, chunk):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, RESAMPLES - start))
        means.append(counts @ differences / n)
    means = np.concatenate(means)
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (len(means) + 1)))


def compare(runs: list[dict], favourite: str, metric: str) -> list[Listing]:
    names = {run["name"] for run in runs}
    if favourite not in names:
        raise UserError(f"--compare: no run of '{favourite}' here.{nearest(favourite, names)}")
    placed: dict[tuple, dict] = {}
    for run in runs:
        other = placed.setdefault((run["name"], setting(run), run["seed"]), run)
        if other is not run:
            raise UserError(f"--compare: {other['path']} and {run['path']} are one setting: choose with --where.")
    rivals = sorted(names - {favourite})
    if not rivals:
        raise UserError(f"--compare: every run here is of {favourite}; there is nothing to compare it with.")
    return [over_runs(placed, favourite, rivals, metric), per_image(placed, favourite, rivals)]


def setting(run: dict) -> tuple:
    """What two runs must share to be a pair, besides the seed."""
    return tuple(run.get(name) for name in SETTING)


def over_runs(placed: dict, favourite: str, rivals: list[str], metric: str) -> Listing:
    rows, ps = [], []
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
    corrected = [holm(column) for column in zip(*ps, strict=True)]
    for (_, cells), *both in zip(rows, *corrected, strict=True):
        cells += both
    return Listing(
        f"{favourite} minus each, {metric}, paired over (data set, seed)",
        ("against",),
        ("pairs", "difference", "95 % low", "high", "p (t, Holm)", "p (Wilcoxon, Holm)"),
        rows,
        notes=["seeds of one data set share its test images: over few data sets these p values are optimistic"],
    )


def per_image(placed: dict, favourite: str, rivals: list[str]) -> Listing:
    rows, ps, single = [], [], []
    for key in sorted({key for name, key, _ in placed if name == favourite}, key=str):
        for rival in rivals:
            seeds = sorted(s for name, k, s in placed if name == favourite and k == key and (rival, k, s) in placed)
            pairs = [(placed[favourite, key, s]["path"], placed[rival, key, s]["path"]) for s in seeds]
            found = [both for a, b in pairs if (both := both_correct(a, b)) is not None]
            if not found:
                continue
            shared = sorted(set.intersection(*(set(ours) for ours, _ in found)))
            table = np.array([[[side[p] for p in shared] for side in both] for both in found])  # (seeds, 2, N)
            each = 100.0 * (table[:, 0].astype(float) - table[:, 1]).mean(0)
            low, high, p = bootstrap(each)
            rows.append(((*map(str, key), rival), [len(shared), len(found), float(each.mean()), low, high]))
            ps.append(p)
            single.append([mcnemar(ours, theirs) for ours, theirs in table])
    flat = iter(holm([p for row in single for p in row]))
    for (_, cells), p, row in zip(rows, holm(ps), single, strict=True):
        cells += [p, " ".join(f"{next(flat):.2g}" for _ in row)]
    return Listing(
        f"{favourite} minus each, accuracy, paired over test images",
        (*SETTING, "against"),
        ("images", "seeds", "difference", "95 % low", "high", "p (bootstrap, Holm)", "p of each seed (McNemar, Holm)"),
        rows,
        notes=[f"{RESAMPLES:,} resamples"]
        if rows
        else ["no predictions.npz here: run with TEST.SAVE_PREDICTIONS True"],
    )
