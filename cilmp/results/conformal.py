"""Prediction sets that hold the true class with probability 1 - alpha, from images that were not trained on.

A score says how badly a class fits an image.  The threshold is the ceil((n + 1)(1 - alpha)) / n quantile of the true
classes' scores on n calibration images, the set all classes that score no more.  If an image is exchangeable with the
calibration images, its set holds its class with probability 1 - alpha or more, whatever the model (Vovk et al. 2005).

Axes: N images, C classes, T resamplings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cilmp.errors import UserError

PENALTY, FREE = 0.1, 1  # of RAPS: for each rank beyond so many; fixed, because tuning would cost calibration images


def lac(p: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) -> scores (N, C).  The smallest sets on average; a set may be empty.

    Sadinle, Lei, Wasserman, JASA 114 (2019), arXiv 1609.00451.
    """
    return 1 - p


def aps(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """What all likelier classes have together, and the part u (N,) of the class's own: u is uniform, a lot an image.

    Romano, Sesia, Candes, NeurIPS 2020, arXiv 2006.02544.
    """
    order, place = ranked(p)
    mass = np.cumsum(np.take_along_axis(p, order, 1), 1)
    return np.take_along_axis(mass, place, 1) - (1 - u[:, None]) * p


def raps(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """APS and PENALTY for each rank beyond FREE.  Angelopoulos et al., ICLR 2021, arXiv 2009.14193."""
    return aps(p, u) + PENALTY * np.maximum(ranked(p)[1] + 1 - FREE, 0)


def ranked(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) classes from the likeliest, and (N, C) the place of each class among them, from 0."""
    order = np.argsort(-p, axis=1, kind="stable")
    return order, np.argsort(order, axis=1)


def scores(p: np.ndarray) -> dict[str, np.ndarray]:
    """{'LAC': (N, C), 'APS': ..., 'RAPS': ...}."""
    u = np.random.default_rng(0).uniform(size=len(p))
    return {"LAC": lac(p), "APS": aps(p, u), "RAPS": raps(p, u)}


def rank(n: int, alpha: float) -> int:
    """Which of n scores in rising order is the threshold; UserError where n are too few to have one."""
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha:g}: give a number between 0 and 1; 0.1 asks for sets of 90 % coverage.")
    k = math.ceil(round((n + 1) * (1 - alpha), 9))  # 1 - alpha is not exact
    if k > n:
        raise UserError(
            f"alpha {alpha:g} needs {math.ceil(round(1 / alpha, 9)) - 1} images to set a threshold, and there are {n}: "
            f"every set would hold every class. Give alpha {math.ceil(1e4 / (n + 1)) / 1e4:g} or more."
        )
    return k


def threshold(true: np.ndarray, alpha: float) -> float:
    """Of the true classes' scores (n,)."""
    return float(np.partition(true, k := rank(len(true), alpha) - 1)[k])


def of_validation(p: np.ndarray, labels: np.ndarray, alpha: float) -> float:
    """LAC's threshold, whose sets alone need no lot, from probabilities (N, C)."""
    return threshold(lac(p)[np.arange(len(labels)), labels], alpha)


@dataclass
class Sets:
    """What sets did on images: fractions of images whose class they hold, and classes in a set."""

    coverage: np.ndarray  # (T,) of each resampling
    size: np.ndarray  # (T,) mean of each
    per_class: np.ndarray  # (C,) coverage, NaN without an image
    sizes: np.ndarray  # (C + 1,) share of sets with 0 .. C classes
    band: tuple[float, float] = (math.nan, math.nan)  # of 95 % of resamplings


def tested(scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, among: np.ndarray) -> Sets:
    """scores (N, C), thresholds (T,); among (T, N): the images each threshold is tested on."""
    classes = scores.shape[1]
    true = scores[np.arange(len(labels)), labels]
    hit = (true <= thresholds[:, None]) & among  # (T, N)
    size = np.stack([(scores <= q).sum(1) for q in thresholds])  # (T, N)
    images = among.sum(1)
    held, total = (np.bincount(labels, of.sum(0), classes) for of in (hit, among))
    per_class = held / np.where(total > 0, total, np.nan)
    sizes = np.bincount(size[among], minlength=classes + 1) / images.sum()
    return Sets(hit.sum(1) / images, (size * among).sum(1) / images, per_class, sizes)


def resampled(scores: np.ndarray, labels: np.ndarray, alpha: float, times: int = 100) -> Sets:
    """Each time a random half of the images sets the threshold and the other half is tested.

    band: where the scores differ, the images covered are distributed beta-binomially, whatever the model: the other
    half's scores fall anywhere among the first half's alike.
    """
    from scipy.stats import betabinom

    n = len(labels) // 2
    k, rest = rank(n, alpha), len(labels) - n
    rng = np.random.default_rng(0)  # the same halves for every method
    among = np.ones((times, len(labels)), bool)
    true = scores[np.arange(len(labels)), labels]
    thresholds = np.empty(times)
    for t in range(times):
        half = rng.permutation(len(labels))[:n]
        among[t, half] = False
        thresholds[t] = threshold(true[half], alpha)
    sets = tested(scores, labels, thresholds, among)
    low, high = betabinom(rest, k, n + 1 - k).interval(0.95)
    sets.band = float(low) / rest, float(high) / rest
    return sets
