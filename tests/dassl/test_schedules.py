"""Learning rates: the reference's printed trace, and PyTorch's own schedulers behind every kind of warm-up."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_lr

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer

LR, EPOCHS = 0.0035, 8


def options(**changes):
    optim = get_cfg_default().OPTIM
    optim.NAME, optim.LR, optim.MAX_EPOCH, optim.LR_SCHEDULER = "sgd", LR, EPOCHS, "cosine"
    for key, value in changes.items():
        optim[key] = value
    return optim


def trace(optim, epochs=EPOCHS):
    optimizer = build_optimizer([nn.Parameter(torch.zeros(1))], optim)
    scheduler, rates = build_lr_scheduler(optimizer, optim), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def torchs_own(scheduler, epochs):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], LR)
    own, rates = scheduler(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        own.step()
    return rates


def test_the_references_trace():
    rates = trace(options(MAX_EPOCH=5, WARMUP_EPOCH=1, WARMUP_TYPE="constant"), 5)
    assert rates == pytest.approx([1e-5, 3.5e-3, 3.1658e-3, 2.2908e-3, 1.2092e-3], rel=1e-4)


OWN = {
    "cosine": lambda o: torch_lr.CosineAnnealingLR(o, EPOCHS),
    "single_step": lambda o: torch_lr.StepLR(o, 3, 0.1),
    "multi_step": lambda o: torch_lr.MultiStepLR(o, [2, 5], 0.1),
}
WARM = {
    "none": (-1, "linear", []),
    "constant 1": (1, "constant", [1e-5]),
    "constant 2": (2, "constant", [1e-5, 1e-5]),
    "linear 1": (1, "linear", [1e-5]),
    "linear 3": (3, "linear", [1e-5, LR / 3, 2 * LR / 3]),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("warm", WARM)
def test_schedule_starts_behind_the_warm_up(kind, warm):
    length, shape, first = WARM[warm]
    steps = (2, 5) if kind == "multi_step" else (1, 3)  # single_step reads the last element
    rates = trace(options(LR_SCHEDULER=kind, STEPSIZE=steps, WARMUP_EPOCH=length, WARMUP_TYPE=shape))
    assert rates == pytest.approx(first + torchs_own(OWN[kind], EPOCHS - len(first)), rel=1e-6)


def test_without_recount_the_warm_up_is_part_of_the_schedule():
    rates = trace(options(WARMUP_EPOCH=2, WARMUP_TYPE="constant", WARMUP_RECOUNT=False))
    cosine = [LR * (1 + math.cos(math.pi * t / EPOCHS)) / (1 + math.cos(math.pi * 2 / EPOCHS)) for t in range(2, 8)]
    assert rates == pytest.approx([1e-5, 1e-5, *cosine])


def test_never_step_by_default():
    assert trace(options(LR_SCHEDULER="single_step")) == [LR] * EPOCHS


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"])
def test_every_optimizer_descends(name):
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = build_optimizer([weight], options(NAME=name, LR=0.01))
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.item() < 3.0


def test_staged_rates():
    net = nn.ModuleDict({"old": nn.Linear(2, 2), "new": nn.Linear(2, 3)})
    groups = build_optimizer(net, options(STAGED_LR=True, NEW_LAYERS=("new",))).param_groups
    assert [(g["lr"], g["params"][0].shape[0]) for g in groups] == [(pytest.approx(LR * 0.1), 2), (LR, 3)]
    with pytest.raises(TypeError, match="STAGED_LR"):
        build_optimizer([nn.Parameter(torch.zeros(1))], options(STAGED_LR=True))


@pytest.mark.parametrize("key, value", [("NAME", "sdg"), ("LR_SCHEDULER", "cosin")])
def test_unknown_names_suggest_the_nearest(key, value):
    with pytest.raises(ValueError, match="Did you mean '(sgd|cosine)'"):
        trace(options(**{key: value}))
