"""Metrics of a classifier, in percent, over numpy arrays: logits (N, C) or probabilities (N, C), labels (N,).

The definitions are scikit-learn's.  A class with no image in the test split has no recall and no ROC curve: macro
averages leave it out (see `absent`); a metric that cannot exist is NaN.
"""

from __future__ import annotations

import warnings

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) in float64: in single precision confident images tie, and AUROC moves."""
    logits = np.asarray(logits, np.float64)
    power = np.exp(logits - logits.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def absent(labels: np.ndarray, classes: int) -> list[int]:
    """Classes without an image."""
    return sorted(set(range(classes)) - set(np.unique(labels).tolist()))


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 100.0 * float(np.mean(predicted == labels))


def accuracy_present(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Where the answers are the present classes alone: what has no image is left out before the argmax."""
    present = np.unique(labels)
    return accuracy(present[probabilities[:, present].argmax(1)], labels)


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Over the classes present in labels, as Dassl's evaluator."""
    from sklearn.metrics import f1_score

    return 100.0 * float(f1_score(labels, predicted, average="macro", labels=np.unique(labels), zero_division=0))


def auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Two classes: of the second one. More: mean over the present classes, each against the rest."""
    from sklearn.metrics import roc_auc_score

    classes = probabilities.shape[1]
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")  # nothing to tell apart
    which = [1] if classes == 2 else present
    return 100.0 * float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in which]))


def kappa(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Cohen's kappa. NaN where truth and prediction are one and the same class."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(predicted, labels)) < 2:
        return float("nan")
    return 100.0 * float(cohen_kappa_score(labels, predicted))


def quadratic_kappa(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Kappa that charges a mistake the square of its distance in grades (0 .. classes - 1)."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(predicted, labels)) < 2:
        return float("nan")
    # all grades are named: without labels= scikit-learn would close the gap a grade nobody has leaves
    grades = np.arange(classes)
    return 100.0 * float(cohen_kappa_score(labels, predicted, labels=grades, weights="quadratic"))


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall of the classes present in labels."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        return 100.0 * float(balanced_accuracy_score(labels, predicted))


def per_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C,) recall of each class, NaN where absent."""
    total = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[predicted == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return 100.0 * np.where(total > 0, correct / np.maximum(total, 1), np.nan)


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """(bins, 3) of `binned`, of the predicted class."""
    return binned(probabilities.max(1), probabilities.argmax(1) == labels, bins)


def binned(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> np.ndarray:
    """(bins, 3): images, mean confidence and accuracy (fractions) of equal-width bins (k/bins, (k+1)/bins]."""
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    mean = [np.bincount(which, weights=w, minlength=bins) / np.maximum(count, 1) for w in (confidence, correct)]
    return np.stack([count, *mean], axis=1)


def gap(bins: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over the images of (bins, 3), in percent."""
    count, confidence, correct = bins.T
    return 100.0 * float((count * np.abs(confidence - correct)).sum() / count.sum())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy. Guo et al., ICML 2017, arXiv 1706.04599, equation 3."""
    return gap(calibration(probabilities, labels, bins))


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts: truth down, prediction across."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def scores(logits: np.ndarray, labels: np.ndarray, graded: bool = False) -> dict[str, float]:
    """All of the above that are one number.  quadratic_kappa only where the classes are grades, accuracy_present only
    where a class has no image."""
    labels = np.asarray(labels, np.int64)
    probabilities, predicted = softmax(logits), np.asarray(logits).argmax(1)
    named = dict(
        accuracy=accuracy(predicted, labels),
        macro_f1=macro_f1(predicted, labels),
        auroc=auroc(probabilities, labels),
        kappa=kappa(predicted, labels),
        balanced_accuracy=balanced_accuracy(predicted, labels),
        ece=expected_calibration_error(probabilities, labels),
    )
    if absent(labels, probabilities.shape[1]):
        named["accuracy_present"] = accuracy_present(probabilities, labels)
    if graded:
        named["quadratic_kappa"] = quadratic_kappa(predicted, labels, probabilities.shape[1])
    return named
