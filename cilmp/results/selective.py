"""Selective classification: what a classifier gets wrong if it answers only where it is sure."""

from __future__ import annotations

import numpy as np


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N,): the fraction of errors among the k surest images, k = 1 .. N.  Equally sure images come in any order: the
    mean over all orders.

    Geifman, El-Yaniv, NeurIPS 2017, arXiv 1705.08500.
    """
    _, group = np.unique(-confidence, return_inverse=True)  # 0: the surest
    group = group.reshape(-1)
    mean = np.bincount(group, weights=~right) / np.bincount(group)
    return np.cumsum(mean[np.sort(group)]) / np.arange(1, len(right) + 1)


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Area under it, the mean risk over all coverages, in percent.  Geifman et al., ICLR 2019, arXiv 1805.08206."""
    return 100.0 * float(risk_coverage(confidence, right).mean())
