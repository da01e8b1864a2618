"""How many kernels a step launches: a budget for every trainer whose steps go through towers, without a GPU.

Towers of full depth and toy width, since a count knows nothing of width, and so many classes that one operator for
each of them is more than the slack.  Fast path, fp32, and all layers at once, as on a GPU.
"""

import pytest
import torch
from reference import KINDS, stand_in
from step import toy
from torch import nn
from yacs.config import CfgNode

from cilmp import dropout
from cilmp.analysis.flops import build
from cilmp.clip import CLIP, attention
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.launches import Launches
from dassl.optim import build_optimizer

CLASSES, IMAGES = 120, 2
SLACK = 1.04  # for other versions of PyTorch; less than CLASSES operators, for every number below
BUDGET = {  # launches of a training step, and of a test batch behind the first
    "BiomedCoOp": (1353, 149),
    "CILMP": (1398, 611),
    "CLIPLoRA": (1832, 270),
    "CoCoOp": (1350, 689),
    "CoOp": (1276, 149),
    "FullFineTune": (465, 144),
    "IVLP": (1119, 160),
    "KgCoOp": (1307, 149),
    "MaPLe": (1164, 169),
    "ProGrad": (1910, 149),
    "PromptSRC": (1342, 160),
    "TCP": (1303, 149),
    "VPT": (355, 163),
}
IN_STEPS = [name for name, kind in ((k.__name__, k) for k in KINDS.values()) if kind.steps == "images"]
FAST = ("CILMP", "CoCoOp", "MaPLe")
CASES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in IN_STEPS]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Dropout's masks of all layers at once, where a CPU takes a layer at a time; gradients of what images share image
    by image."""
    monkeypatch.setattr(dropout, "pieces", lambda *tensors: [[tensor] for tensor in tensors])
    monkeypatch.setattr(attention, "SINGLE", ())


def measured(name: str, classes: int = CLASSES, images: int = IMAGES, clip: CLIP | None = None) -> tuple[int, int]:
    """Launches of a training step (forward, backward, the optimiser's) and of a test batch behind the first."""
    kind = KINDS[name.lower()]
    model = build(name, clip or toy(), [f"finding {i}" for i in range(classes)], (12, 20)).train()
    trainer = stand_in(kind, model, CfgNode(kind.defaults))
    trained = [p for p in model.parameters() if p.requires_grad]
    optim = build_optimizer(trained, default_cfg().OPTIM)
    for group in optim.param_groups:
        group["foreach"] = True  # PyTorch's own choice on a GPU
    image, label = torch.randn(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
    for counter in (Launches(), step := Launches()):  # the first step makes the optimiser's buffers
        optim.zero_grad()
        with counter:
            trainer.backward(model.losses(image, label)[0])
            optim.step()
    model.eval().infer(image)
    with Launches() as test:
        model.infer(image)
    return step.count, test.count


def test_every_trainer_in_steps_has_a_budget():
    assert sorted(BUDGET) == sorted(IN_STEPS)


@pytest.mark.parametrize("name", CASES)
def test_launches_stay_within_the_budget(name):
    for found, budget in zip(measured(name), BUDGET[name], strict=True):
        assert found <= budget * SLACK, "a loop over classes or layers?"
        assert found >= budget * 0.9, "fewer: lower the budget to what was found"


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_STEPS)
def test_neither_classes_nor_images_change_them(name):
    assert measured(name, 20, 3) == measured(name, 30, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_STEPS)
def test_a_loop_over_the_classes_breaks_it(name, monkeypatch):
    def one_by_one(*args):
        return torch.stack([column * 1.0 for column in logits(*args).unbind(-1)], dim=-1)

    where, what = (nn.Linear, "forward") if name == "FullFineTune" else (CLIP, "logits")
    logits = getattr(where, what)
    monkeypatch.setattr(where, what, one_by_one)
    for found, budget in zip(measured(name), BUDGET[name], strict=True):
        assert found > budget * SLACK


def test_what_counts():
    x, y = torch.ones(2, 3), torch.ones(2, 3)
    with Launches() as counter:
        torch.empty(3), x.T, x.view(3, 2), x[0], x.detach()
    assert not counter.count and not counter.moved
    with Launches() as counter:
        torch._foreach_add_([x, y], 1.0)
        z = x + y
        z @ z.T
    assert dict(counter.of) == {"_foreach_add_": 1, "add": 1, "mm": 1} and counter.moved == 2 * 24 + 3 * 24


def test_half_precision_adds_few_casts():
    """CILMP's step as its yamls run it: weights that do not change are not cast in every step."""
    assert measured("CILMP", clip=toy().cast("bf16"))[0] <= measured("CILMP")[0] + 60
