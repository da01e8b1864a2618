"""Interventions, their folded twins, dropout and averaging against the equations."""

import math

import pytest
import torch

from cilmp.averaging import GaussianAverage
from cilmp.dropout import draw
from cilmp.intervention import INTERVENTIONS


@pytest.mark.parametrize("kind", sorted(INTERVENTIONS))
def test_folded_dropout_is_the_equation_with_a_shared_mask(kind):
    torch.manual_seed(0)
    modules = [INTERVENTIONS[kind](16, 6, 3, 0.4).double().train() for _ in range(2)]
    h, f, A = torch.randn(5, 2, 16).double(), torch.randn(4, 6).double(), torch.randn(2, 3, 16).double()
    torch.manual_seed(1)
    folded = type(modules[0]).folded([modules], h[None], f, A)[0]  # (K, B or 1, C, n, a)
    torch.manual_seed(1)
    keeps = draw((2, 10, 16), 0.6, h.device).view(2, 5, 2, 16) / 0.6 if kind != "none" else torch.ones(2, 5, 2, 16)
    for module, keep, projection, fast in zip(modules, keeps, A, folded, strict=True):
        slow = (module.eval()(h, f) * keep) @ projection.T  # (B or 1, C, n, a)
        fast, slow = (y.expand(4, -1, -1, -1) for y in (fast, slow))
        torch.testing.assert_close(fast, slow)
        if kind == "none":
            continue  # nothing is learned
        trained = [p for p in module.parameters() if p.requires_grad]
        for here, there in zip(
            *(torch.autograd.grad(y.square().sum(), trained, retain_graph=True) for y in (fast, slow)), strict=True
        ):
            torch.testing.assert_close(here, there)


def test_dropout_keeps_its_share():
    kept = draw((3, 700, 501), 0.9, torch.device("cpu"))
    assert kept.shape == (3, 700, 501) and abs(kept.double().mean().item() - 0.9) < 5 * (0.09 / kept.numel()) ** 0.5
    assert not torch.equal(kept[0], kept[1])


def test_rotation_starts_orthogonal():
    R = INTERVENTIONS["conditional"](32, 8, 4).rotation()
    torch.testing.assert_close(R.T @ R, torch.eye(4))


def test_gaussian_average_is_the_weighted_sum():
    values = torch.randn(5, 3)
    average = GaussianAverage({"ctx.0": values[0]}, mean=4, std=2, epochs=5)
    weights = torch.tensor([math.exp(-0.5 * ((e - 4) / 2) ** 2) for e in range(1, 6)])
    for epoch, value in enumerate(values, 1):
        average.add({"ctx.0": value}, epoch)
    result = {"ctx.0": torch.empty(3)}
    average.load_into(result)
    torch.testing.assert_close(result["ctx.0"], (weights / weights.sum()) @ values)
