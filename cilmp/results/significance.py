"""Is a paired difference more than chance? Tests over runs, over images, and their correction."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def holm(p: Sequence[float]) -> list[float]:
    """Step-down correction. Holm, Scand. J. Statist. 6 (1979). NaN stays NaN and does not count."""
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    corrected, worst = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, float((len(order) - rank) * p[i]))
        corrected[i] = min(1.0, worst)
    return corrected


def paired(differences: np.ndarray) -> dict[str, float]:
    """Of paired differences (n,): mean, 95 % t interval, p of the paired t test and of the exact Wilcoxon test.

    NaN where there is nothing to test: of one difference, and of n that do not vary, which are copies of one (scipy has
    an interval without width and p = 0 there; Wilcoxon's 2 / 2^n would count the copies).
    """
    from scipy import stats

    n = len(differences)
    mean = float(np.mean(differences)) if n else math.nan
    if n < 2 or np.allclose(differences, mean, rtol=1e-9, atol=1e-9):  # less is rounding of the scores
        return dict(mean=mean, low=math.nan, high=math.nan, t=math.nan, wilcoxon=math.nan)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    t = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    signed = float(stats.wilcoxon(differences).pvalue)
    return dict(mean=mean, low=mean - reach, high=mean + reach, t=t, wilcoxon=signed)


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Exact two-sided p that images only one of the two gets right (N,) fall to either by a coin."""
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return coin(only_ours, only_ours + only_theirs)


@functools.cache
def coin(heads: int, tosses: int) -> float:
    """Two-sided p of a fair coin, in whole numbers up to the last division."""
    ways, total = 1, 0
    for k in range(min(heads, tosses - heads) + 1):
        total += ways
        ways = ways * (tosses - k) // (k + 1)
    return min(1.0, 2 * total / 2**tosses)


def bootstrap(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of per-image differences (K, N) resampled over images -> (K, 3): 95 % percentile interval, two-sided p.

    The K rows share their draws, which cost more than all else.
    """
    rng, n = np.random.default_rng(seed), differences.shape[1]
    chunk = max(1, 10_000_000 // n)
    means = np.empty((len(differences), RESAMPLES))
    for start in range(0, RESAMPLES, chunk):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, RESAMPLES - start)).astype(float)
        for row, difference in zip(means, differences, strict=True):
            row[start : start + len(counts)] = counts @ difference / n
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    tail = np.minimum((means <= 0).sum(1), (means >= 0).sum(1))
    return np.stack([low, high, np.minimum(1.0, 2 * (tail + 1) / (RESAMPLES + 1))], axis=1)


def resampled(differences: Sequence[np.ndarray]) -> list[tuple[float, float, float]]:
    """`bootstrap` of vectors of any lengths, those of one length together."""
    found: dict[int, tuple[float, float, float]] = {}
    for n in {len(row) for row in differences}:
        which = [i for i, row in enumerate(differences) if len(row) == n]
        for i, (low, high, p) in zip(which, bootstrap(np.stack([differences[i] for i in which])), strict=True):
            found[i] = float(low), float(high), float(p)
    return [found[i] for i in range(len(differences))]
