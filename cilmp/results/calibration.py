"""How far a run's probabilities can be believed, and the one number that mends them after training: a temperature.

Over numpy arrays: logits (N, C), probabilities (N, C), labels (N,).
"""

from __future__ import annotations

import numpy as np

from cilmp.results import metrics

MEASURES = ("NLL", "ECE", "classwise ECE", "Brier")  # nats, %, %, 0 to 2: of all, less is better


def measures(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """MEASURES, in their order."""
    p = metrics.softmax(logits)
    ece = metrics.expected_calibration_error(p, labels)
    return [nll(logits, labels), ece, classwise_calibration_error(p, labels), brier(p, labels)]


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the true class, in nats; finite where a probability would round to 0."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(labels)), labels]))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Squared distance to the truth, summed over classes: 0 to 2.  Brier, Monthly Weather Review 78 (1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def classwise_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """ECE of each class's probability, whether it is the largest or not, averaged over classes; in percent.

    Kull et al., NeurIPS 2019, arXiv 1910.12656.
    """
    errors = [metrics.gap(metrics.binned(p, labels == c, bins)) for c, p in enumerate(probabilities.T)]
    return float(np.mean(errors))


def temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[float, str]:
    """The T > 0 at which softmax(logits / T) has the least NLL, and ''; or 1 and why there is no such T.

    Guo et al., ICML 2017, arXiv 1706.04599, section 4.2.  NLL is convex in 1 / T, so its slope has one root.
    """
    from scipy.optimize import brentq

    z = np.asarray(logits, np.float64)
    true = z[np.arange(len(labels)), labels]

    def slope(b: float) -> float:
        """Of NLL in b = 1 / T."""
        return float(((metrics.softmax(b * z) * z).sum(1) - true).mean())

    if (true >= z.max(1)).all():
        return 1.0, f"all {len(labels)} images are right, and the surer the better"
    if slope(0.0) >= 0:
        return 1.0, f"on {len(labels)} images the logits tell no more than chance"
    low, high = 1.0, 1.0
    while slope(low) > 0:
        low /= 2
    while slope(high) < 0:
        high *= 2
    return 1 / (low if low == high else float(brentq(slope, low, high, xtol=1e-12))), ""
