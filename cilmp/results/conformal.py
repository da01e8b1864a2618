"""Prediction sets that hold the true class with probability 1 - alpha, from images that were not trained on.

A score says how badly a class fits an image.  Scores are kept as log-odds, log(s / (1 - s)), which order classes and
images as s does: s itself rounds to 0 or 1 where a method is sure, and what ties with the threshold is in every set.
The threshold is the ceil((n + 1)(1 - alpha)) / n quantile of the true classes' scores on n calibration images, the set
all classes that score no more.  If an image is exchangeable with the calibration images, its set holds its class with
probability 1 - alpha or more, whatever the model (Vovk et al. 2005).

Axes: N images, C classes, T resamplings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cilmp.errors import UserError

PENALTY, FREE = 0.1, 1  # of RAPS: for each rank beyond so many; fixed, because tuning would cost calibration images
EVERY = "every set holds every class and tells nothing: give a larger alpha, or calibrate on more images"


def lac(logits: np.ndarray) -> np.ndarray:
    """1 - p, the smallest sets on average; a set may be empty.  Logits (N, C) -> its log-odds (N, C).

    Sadinle, Lei, Wasserman, JASA 114 (2019), arXiv 1609.00451.
    """
    z, above, below = around(logits)
    return np.logaddexp(above, below) - z


def aps(logits: np.ndarray, u: np.ndarray) -> np.ndarray:
    """What all likelier classes have together, and the part u (N,) of the class's own: u is uniform, a lot an image.

    Logits (N, C) -> its log-odds (N, C).  Romano, Sesia, Candes, NeurIPS 2020, arXiv 2006.02544.
    """
    z, above, below = around(logits)
    with np.errstate(divide="ignore"):  # the log of 0
        within, without = np.log(u)[:, None], np.log1p(-u)[:, None]
    return np.logaddexp(above, z + within) - np.logaddexp(below, z + without)


def raps(logits: np.ndarray, u: np.ndarray) -> np.ndarray:
    """APS and PENALTY for each rank beyond FREE.  Angelopoulos et al., ICLR 2021, arXiv 2009.14193.

    Logits (N, C) -> complex (N, C): the sum, and APS's log-odds, which order what rounds to one sum (NumPy compares the
    real parts, then the imaginary ones).
    """
    from scipy.special import expit

    mass = aps(logits, u)
    total = expit(mass) + PENALTY * np.maximum(ranked(logits)[1] + 1 - FREE, 0)
    return np.stack([total, mass], -1).view(complex)[..., 0]


def ranked(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) classes from the likeliest, and (N, C) the place of each class among them, from 0."""
    order = np.argsort(-logits, axis=1, kind="stable")
    return order, np.argsort(order, axis=1)


def around(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, C) logits, and the logsumexp of those of all likelier classes, and of all less likely ones, in float64."""
    z = np.asarray(logits, np.float64)
    order, place = ranked(z)
    falling = np.take_along_axis(z, order, 1)
    none = np.full((len(z), 1), -np.inf)
    above = np.concatenate([none, np.logaddexp.accumulate(falling, 1)[:, :-1]], 1)
    below = np.concatenate([none, np.logaddexp.accumulate(falling[:, ::-1], 1)[:, :-1]], 1)[:, ::-1]
    return z, np.take_along_axis(above, place, 1), np.take_along_axis(below, place, 1)


def scores(logits: np.ndarray) -> dict[str, np.ndarray]:
    """{'LAC': (N, C), 'APS': ..., 'RAPS': ...}."""
    u = np.random.default_rng(0).uniform(size=len(logits))
    return {"LAC": lac(logits), "APS": aps(logits, u), "RAPS": raps(logits, u)}


def rank(n: int, alpha: float, there: str = "there are") -> int:
    """Which of n scores in rising order is the threshold; UserError where n are too few to have one."""
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha:g}: give a number between 0 and 1; 0.1 asks for sets of 90 % coverage.")
    k = math.ceil(round((n + 1) * (1 - alpha), 9))  # 1 - alpha is not exact
    if k > n:
        raise UserError(
            f"alpha {alpha:g} needs {math.ceil(round(1 / alpha, 9)) - 1} images to set a threshold, and {there} {n}: "
            f"every set would hold every class. Give alpha {math.ceil(1e4 / (n + 1)) / 1e4:g} or more."
        )
    return k


def rank_of_half(images: int, alpha: float) -> int:
    """`rank` among half of the test images."""
    return rank(images // 2, alpha, f"half of the {images} test images are")


def threshold(true: np.ndarray, alpha: float) -> np.ndarray:
    """Of the true classes' scores (n,): a number, complex for RAPS."""
    return np.partition(true, k := rank(len(true), alpha) - 1)[k]


def of_validation(logits: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """LAC's threshold, whose sets alone need no lot, from logits (N, C)."""
    return threshold(lac(logits)[np.arange(len(labels)), labels], alpha)


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
    k, rest = rank_of_half(len(labels), alpha), len(labels) - n
    rng = np.random.default_rng(0)  # the same halves for every method
    among = np.ones((times, len(labels)), bool)
    true = scores[np.arange(len(labels)), labels]
    thresholds = np.empty(times, scores.dtype)
    for t in range(times):
        half = rng.permutation(len(labels))[:n]
        among[t, half] = False
        thresholds[t] = threshold(true[half], alpha)
    sets = tested(scores, labels, thresholds, among)
    low, high = betabinom(rest, k, n + 1 - k).interval(0.95)
    sets.band = float(low) / rest, float(high) / rest
    return sets
