"""Prediction sets against loops written from the papers, against MAPIE's, and against the distribution they promise."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import betabinom

from cilmp.errors import UserError
from cilmp.results import conformal

# MAPIE 1.6.0, SplitConformalClassifier(prefit, confidence_level=1 - alpha, conformity_score=score, random_state=3): 40
# images set the threshold, of the other 50 each letter is a set, the bits of a number of base 32, class 0 the highest.
# APS with include_last_label="randomized", whose lots are RandomState(3)'s, less than ours by 1 - u.
MAPIE = {
    ("LAC", 0.05): "vudvvdtvutvlvrmjvrrvvvnnnnvvnvvvftvrtvvvvvvvvvutut",
    ("LAC", 0.1): "vuddrdtrqpnlvjmjrbrtvunnnnvt7urvetprtvtuvvmvnvmtst",
    ("LAC", 0.3): "2md9q5ooq85lmjijjajlo6jj65jt5mqf6dhiclc6qlmmh9kos5",
    ("APS", 0.05): "vvdvvftvutntvrmjrrrvvvnnnvvvnvvvftrjtvvvvvvvvvvtut",
    ("APS", 0.1): "vudfrdprqp7lvjmjjbrtrunjnnrt7uvvftpjtvtuvnnnnvmtst",
    ("APS", 0.3): "rm99r5poa95hmiijhajlpejj77jd5uqfedhistsmrnimlfkpsl",
}


def case() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (90, 5) and labels that follow them seven times in ten; of a generator that never changes."""
    rng = np.random.RandomState(7)
    p = rng.dirichlet(np.full(5, 0.5), 90)
    follows = rng.uniform(size=90) < 0.7
    drawn = (p.cumsum(1) < rng.uniform(size=(90, 1))).sum(1)
    return p, np.where(follows, drawn, rng.randint(0, 5, 90))


@pytest.mark.parametrize("name, alpha", MAPIE)
def test_sets_are_those_of_mapie(name, alpha):
    p, labels = case()
    lots = [1 - np.random.RandomState(3).uniform(size=n) for n in (40, 50)]
    first, rest = (
        conformal.lac(np.log(part)) if name == "LAC" else conformal.aps(np.log(part), u)
        for part, u in zip((p[:40], p[40:]), lots, strict=True)
    )
    q = conformal.threshold(first[np.arange(40), labels[:40]], alpha)
    theirs = np.array([[int(bit) for bit in f"{int(letter, 32):05b}"] for letter in MAPIE[name, alpha]], bool)
    np.testing.assert_array_equal(rest <= q, theirs)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.floats(0.05, 0.6))
def test_sets_are_the_papers_(seed, classes, tau):
    """Class by class: LAC p >= 1 - tau; APS and RAPS walk from the likeliest class and add up."""
    rng = np.random.default_rng(seed)
    p, u = rng.dirichlet(np.ones(classes), 5), rng.uniform(size=5)
    lac, aps, raps = conformal.lac(np.log(p)), conformal.aps(np.log(p), u), conformal.raps(np.log(p), u)
    for i in range(5):
        mass = 0.0
        for place, c in enumerate(sorted(range(classes), key=lambda c: -p[i, c]), start=1):
            penalty = conformal.PENALTY * max(0, place - conformal.FREE)
            assert expit(lac[i, c]) == pytest.approx(1 - p[i, c])
            assert expit(aps[i, c]) == pytest.approx(mass + u[i] * p[i, c])
            assert raps[i, c].real == pytest.approx(mass + u[i] * p[i, c] + penalty)
            assert raps[i, c].imag == aps[i, c]
            mass += p[i, c]


def exact(logits: np.ndarray, u: np.ndarray) -> dict[str, list[list[Decimal]]]:
    """The papers' formulae, {score: (N, C)}, in as many digits as the context has."""
    told: dict[str, list] = {"LAC": [], "APS": [], "RAPS": []}
    for z, lot in zip(logits, u, strict=True):
        power = [Decimal(float(x)).exp() for x in z]
        p = [x / sum(power) for x in power]
        lac, aps, raps, mass = [1 - x for x in p], [Decimal(0)] * len(p), [Decimal(0)] * len(p), Decimal(0)
        for place, c in enumerate(sorted(range(len(p)), key=lambda c: -p[c]), start=1):
            aps[c] = mass + Decimal(float(lot)) * p[c]
            raps[c] = aps[c] + Decimal(str(conformal.PENALTY)) * max(0, place - conformal.FREE)
            mass += p[c]
        for name, row in zip(told, (lac, aps, raps), strict=True):
            told[name].append(row)
    return told


@pytest.mark.parametrize("scale", [1, 20, 100])
def test_sets_of_a_sure_method_are_those_of_exact_arithmetic(scale):
    """Where probabilities round to 0 and 1, the scores as they are written tie, and a set would hold all that tie."""
    rng = np.random.default_rng(scale)
    logits, labels = scale * rng.normal(size=(60, 8)), rng.integers(0, 8, 60)
    ours = conformal.scores(logits)
    with localcontext() as context:
        context.prec = 320
        theirs = exact(logits, np.random.default_rng(0).uniform(size=60))
        for name, alpha in ((name, alpha) for name in theirs for alpha in (0.05, 0.1, 0.3, 0.6)):
            true = [theirs[name][i][labels[i]] for i in range(40)]
            q = sorted(true)[conformal.rank(40, alpha) - 1]
            wanted = [[s <= q for s in row] for row in theirs[name]]
            found = ours[name] <= conformal.threshold(ours[name][np.arange(40), labels[:40]], alpha)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name} {alpha}")


@pytest.mark.parametrize("name", ["LAC", "APS", "RAPS"])
def test_a_sure_method_s_coverage_is_in_its_band(name):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 8, 401)
    logits = 300 * (0.6 * np.eye(8)[labels] + rng.normal(size=(401, 8)))
    found = conformal.resampled(conformal.scores(logits)[name], labels, 0.1, times=100)
    inside = (found.coverage >= found.band[0]) & (found.coverage <= found.band[1])
    assert inside.sum() >= 88 and found.size.mean() < 7.5


@pytest.mark.parametrize("n", [1, 9, 10, 19, 32, 99, 100])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3, 0.5, 0.9])
def test_the_threshold_is_the_finite_sample_quantile(n, alpha):
    scores = np.random.default_rng(n).normal(size=n)
    level = math.ceil(round((n + 1) * (1 - alpha), 9)) / n
    if level > 1:
        with pytest.raises(UserError, match=f"alpha {alpha:g} needs .* images .* there are {n}") as refused:
            conformal.threshold(scores, alpha)
        told = str(refused.value).split()
        assert conformal.rank(int(told[told.index("needs") + 1]), alpha)  # as many would do,
        assert conformal.rank(n, float(told[told.index("Give") + 2]))  # and so would the alpha it names
    else:
        assert conformal.threshold(scores, alpha) == np.quantile(scores, level, method="inverted_cdf")


def test_too_few_in_half_of_the_test_are_told_with_the_whole():
    with pytest.raises(UserError, match="alpha 0.1 needs 9 images to set .*, and half of the 15 test images are 7: "):
        conformal.resampled(np.zeros((15, 2)), np.zeros(15, int), 0.1)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan])
def test_alpha_is_a_chance(alpha):
    with pytest.raises(UserError, match="give a number between 0 and 1"):
        conformal.threshold(np.arange(100.0), alpha)


@pytest.mark.parametrize("name", ["LAC", "APS", "RAPS"])
def test_coverage_of_a_hundred_halves_is_in_its_band(name):
    """Whatever the model: here one that is wrong two times in three."""
    rng = np.random.default_rng(1)
    p, labels = rng.dirichlet(np.full(6, 0.5), 401), rng.integers(0, 6, 401)
    found = conformal.resampled(conformal.scores(np.log(p))[name], labels, 0.1, times=100)
    law = betabinom(201, 181, 20)  # of the images covered, of 201
    assert found.band == tuple(x / 201 for x in law.interval(0.95))
    inside = (found.coverage >= found.band[0]) & (found.coverage <= found.band[1])
    assert inside.sum() >= 88  # one chance in 500 to be fewer of 100 at 0.95
    assert abs(found.coverage.mean() - law.mean() / 201) < 4 * law.std() / 201 / 10


def test_what_is_told_of_sets_is_counted():
    scores = np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.9], [0.5, 0.5, 0.1], [0.9, 0.9, 0.9]])
    labels = np.array([0, 0, 2, 2])
    among = np.array([[True, True, False, True], [True, True, True, True]])
    found = conformal.tested(scores, labels, np.array([0.2, 0.5]), among)
    np.testing.assert_allclose(found.coverage, [1 / 3, 2 / 4])
    np.testing.assert_allclose(found.size, [2 / 3, 6 / 4])
    np.testing.assert_allclose(found.per_class, [2 / 4, np.nan, 1 / 3])
    np.testing.assert_allclose(found.sizes, np.array([3, 1, 2, 1]) / 7)


def test_a_half_never_tests_itself():
    """What is covered is counted in images of the other half."""
    found = conformal.resampled(np.arange(41.0)[:, None], np.zeros(41, int), 0.5, times=50)
    covered = 21 * found.coverage
    np.testing.assert_allclose(covered, covered.round(), atol=1e-9)
    assert 0.35 < found.coverage.mean() < 0.65 and np.unique(found.coverage).size > 1
