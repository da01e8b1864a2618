"""Proper scores against scikit-learn, the classwise error against its definition, the temperature against a search."""

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.optimize import minimize_scalar

from cilmp.results import calibration, metrics


def case(seed: int, n: int = 200, classes: int = 4, scale: float = 1.0):
    """Logits and labels drawn from softmax(logits / scale): the true temperature is `scale`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    labels = np.array([rng.choice(classes, p=p) for p in metrics.softmax(logits)])
    return logits * scale, labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_equal_scikit_learn(seed, classes):
    logits, labels = case(seed, classes=classes)
    p = metrics.softmax(logits)
    assert calibration.nll(logits, labels) == pytest.approx(sk.log_loss(labels, p, labels=range(classes)), abs=1e-12)
    theirs = sum(sk.brier_score_loss(labels == c, p[:, c]) for c in range(classes))
    assert calibration.brier(p, labels) == pytest.approx(theirs, abs=1e-12)


def test_a_loss_beyond_the_range_of_probabilities_is_a_number():
    assert calibration.nll(np.array([[2000.0, 0.0]]), np.array([1])) == 2000


def test_classwise_error_is_its_definition():
    """Kull et al.: class by class, bin by bin, in a loop."""
    logits, labels = case(5, 300)
    p, expected = metrics.softmax(logits), 0.0
    for c in range(4):
        for m in range(15):
            inside = (p[:, c] > m / 15) & (p[:, c] <= (m + 1) / 15)
            if inside.any():
                expected += inside.sum() / 300 * abs((labels[inside] == c).mean() - p[inside, c].mean()) / 4
    assert calibration.classwise_calibration_error(p, labels) == pytest.approx(100 * expected, abs=1e-9)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 4.0, 100.0])
def test_the_temperature_is_where_a_search_finds_the_least_loss(scale):
    logits, labels = case(3, scale=scale)

    def loss(log_t: float) -> float:
        return sk.log_loss(labels, metrics.softmax(logits / np.exp(log_t)), labels=range(4))

    theirs = np.exp(minimize_scalar(loss, bounds=(-8, 8), method="bounded", options=dict(xatol=1e-9)).x)
    ours, why = calibration.temperature(logits, labels)
    assert ours == pytest.approx(theirs, rel=1e-5) and not why
    assert 0.7 * scale < ours < 1.4 * scale  # what the labels were drawn with


def test_no_temperature_where_the_loss_has_no_least():
    logits, labels = case(4)
    assert calibration.temperature(logits, logits.argmax(1)) == (
        1.0,
        "all 200 images are right, and the surer the better",
    )
    found, why = calibration.temperature(-logits, labels)
    assert found == 1 and "no more than chance" in why
    assert calibration.temperature(np.zeros((6, 3)), np.arange(6) % 3)[0] == 1
