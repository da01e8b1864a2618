"""A step on another device than the CPU, checked without one: tensors of the "meta" device refuse to meet the CPU's and
have no values, so a constant left on the CPU and a step that waits for the device (`.item()`, `nonzero`) both raise."""

import pytest
import torch
from models import CLASSNAMES, random_clip

from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.cocoop import CoCoOp
from cilmp.trainers.coop import CoOp
from cilmp.trainers.maple import MaPLe
from cilmp.trainers.method import Task
from cilmp.trainers.zsclip import ZeroshotCLIP

DEPTHS = {CILMP: dict(PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2), MaPLe: dict(PROMPT_DEPTH=2), CoOp: dict(CSC=True)}


def build(kind, backbone="openai", **options):
    task = Task(CLASSNAMES, states=[torch.randn(12, 20) for _ in CLASSNAMES])
    return kind.build(random_clip(2, 3, 3, kind=backbone).float(), task, **DEPTHS.get(kind, {}) | options).to("meta")


@pytest.mark.parametrize("literal", [False, True], ids=["fast", "literal"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (CoOp, {}),
        (CoOp, dict(CLASS_TOKEN_POSITION="middle")),
        (CoCoOp, {}),
        (MaPLe, {}),
        (CILMP, {}),
        (CILMP, dict(INTERVENTION="loreft")),
        (CILMP, dict(backbone="biomedclip")),
        (CoOp, dict(backbone="biomedclip", CLASS_TOKEN_POSITION="middle")),
        (MaPLe, dict(backbone="siglip")),
    ],
)
def test_a_step_neither_mixes_devices_nor_waits(kind, options, literal):
    method = build(kind, **options).train()
    method.literal = literal
    image, label = torch.empty(4, 3, 32, 32, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    losses, logits = method.losses(image, label)
    sum(losses.values()).backward()
    assert logits.shape == (4, 3) and all(p.grad is not None for p in method.parameters() if p.requires_grad)
    assert method.eval().infer(image).shape == (4, 3)


def test_zero_shot_too():
    method = build(ZeroshotCLIP).eval()
    assert method.infer(torch.empty(4, 3, 32, 32, device="meta")).shape == (4, 3)


def test_meta_tensors_do_notice():
    x = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError):
        x + torch.ones(3)
    with pytest.raises(RuntimeError):
        x.sum().item()
