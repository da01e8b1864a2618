"""Metrics against scikit-learn's own, and against the definition where scikit-learn has none."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from cilmp.results import metrics


@st.composite
def predictions(draw):
    classes = draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2 * classes, 80))
    labels = rng.permutation(np.r_[np.arange(classes), rng.integers(0, classes, n - classes)])  # all are present
    return rng.normal(size=(n, classes)) * 3 + 2 * np.eye(classes)[labels], labels


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_equal_scikit_learn(case):
    logits, labels = case
    classes, predicted, p = logits.shape[1], logits.argmax(1), metrics.softmax(logits)
    ours = metrics.scores(logits, labels, graded=True)
    area = sk.roc_auc_score(labels, p[:, 1]) if classes == 2 else sk.roc_auc_score(labels, p, multi_class="ovr")
    theirs = dict(
        accuracy=sk.accuracy_score(labels, predicted),
        macro_f1=sk.f1_score(labels, predicted, average="macro"),
        auroc=area,
        kappa=sk.cohen_kappa_score(labels, predicted),
        quadratic_kappa=sk.cohen_kappa_score(labels, predicted, weights="quadratic"),
        balanced_accuracy=sk.balanced_accuracy_score(labels, predicted),
    )
    for name, expected in theirs.items():
        assert ours[name] == pytest.approx(100 * expected, abs=1e-9), name
    recall = sk.recall_score(labels, predicted, average=None, labels=range(classes), zero_division=0)
    np.testing.assert_allclose(metrics.per_class(predicted, labels, classes), 100 * recall)
    np.testing.assert_array_equal(metrics.confusion(predicted, labels, classes), sk.confusion_matrix(labels, predicted))


def test_calibration_error_is_its_definition():
    """Guo et al.: bin by bin, in a loop, with a confidence on a bin's upper edge inside it."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.6, 0.6, 0.6], 500)
    p[:3] = [[0.4, 0.3, 0.3], [1.0, 0.0, 0.0], [0.6, 0.2, 0.2]]  # edges of 15 bins: 6/15, 15/15, 9/15
    labels, expected = rng.integers(0, 3, 500), 0.0
    confidence, right = p.max(1), p.argmax(1) == labels
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15 + 1e-12) & (confidence <= m / 15 + 1e-12)
        if inside.any():
            expected += inside.sum() / 500 * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(p, labels) == pytest.approx(100 * expected, abs=1e-9)


def test_absent_class_is_left_out():
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 3], 60)
    logits = rng.normal(size=(60, 4)) + 2 * np.eye(4)[labels]
    p, predicted = metrics.softmax(logits), logits.argmax(1)
    assert metrics.absent(labels, 4) == [2]
    scores = metrics.scores(logits, labels, graded=True)
    assert scores["auroc"] == pytest.approx(100 * np.mean([sk.roc_auc_score(labels == c, p[:, c]) for c in (0, 1, 3)]))
    assert scores["macro_f1"] == pytest.approx(
        100 * np.mean([sk.f1_score(labels == c, predicted == c) for c in (0, 1, 3)])
    )
    assert math.isnan(metrics.per_class(predicted, labels, 4)[2])
    # a grade nobody has still keeps its neighbours two apart
    weights = (np.arange(4)[:, None] - np.arange(4)) ** 2
    seen = metrics.confusion(predicted, labels, 4)
    chance = np.outer(seen.sum(1), seen.sum(0)) / 60
    assert scores["quadratic_kappa"] == pytest.approx(100 * (1 - (weights * seen).sum() / (weights * chance).sum()))


def test_one_class_has_no_curve():
    scores = metrics.scores(np.array([[2.0, 1.0], [3.0, 1.0]]), np.array([0, 0]))
    assert math.isnan(scores["auroc"]) and math.isnan(scores["kappa"]) and scores["accuracy"] == 100


def test_confidence_beyond_single_precision_still_ranks():
    """Softmax in float32 would tie both positives and negatives at 1.0."""
    logits = np.array([[0.0, 20.0], [0.0, 21.0], [0.0, 22.0], [0.0, 19.0]], np.float32)
    labels = np.array([0, 1, 1, 0])
    assert metrics.scores(logits, labels)["auroc"] == 100


@settings(max_examples=40, deadline=None)
@given(predictions(), st.data())
def test_absent_classes_are_no_answers(case, data):
    """scikit-learn's accuracy where only the present classes can be answered; none of it where all are present."""
    logits, labels = case
    assert "accuracy_present" not in metrics.scores(logits, labels)
    wide = np.c_[logits, np.full((len(logits), 2), data.draw(st.floats(-9, 9)))]  # two more classes, without an image
    order = data.draw(st.permutations(range(wide.shape[1])))
    moved = np.argsort(order)[labels]  # where each label's column went
    scores = metrics.scores(wide[:, order], moved)
    assert scores["accuracy_present"] == pytest.approx(100 * sk.accuracy_score(labels, logits.argmax(1)))
    assert scores["accuracy"] == pytest.approx(100 * sk.accuracy_score(moved, wide[:, order].argmax(1)))
    assert scores["accuracy_present"] >= scores["accuracy"]
