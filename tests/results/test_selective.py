"""The risk-coverage curve against its definition, image by image, over every order of ties."""

import itertools

import numpy as np
import pytest

from cilmp.results import selective


def test_curve_and_area_are_the_definition():
    rng = np.random.default_rng(0)
    confidence, right = rng.uniform(size=50), rng.uniform(size=50) < 0.7
    order = sorted(range(50), key=lambda i: -confidence[i])
    expected = [sum(not right[i] for i in order[:k]) / k for k in range(1, 51)]
    np.testing.assert_allclose(selective.risk_coverage(confidence, right), expected)
    assert selective.aurc(confidence, right) == pytest.approx(100 * np.mean(expected))


def test_ties_are_the_mean_over_their_orders():
    confidence, right = np.array([0.5, 0.9, 0.5, 0.5, 0.2]), np.array([True, True, False, False, True])
    curves = []
    for tied in itertools.permutations([0, 2, 3]):
        order = [1, *tied, 4]
        curves.append([np.mean([not right[i] for i in order[:k]]) for k in range(1, 6)])
    np.testing.assert_allclose(selective.risk_coverage(confidence, right), np.mean(curves, axis=0))


@pytest.mark.parametrize("right, area", [(np.ones(7, bool), 0.0), (np.zeros(7, bool), 100.0)])
def test_ends(right, area):
    assert selective.aurc(np.linspace(0, 1, 7), right) == area
