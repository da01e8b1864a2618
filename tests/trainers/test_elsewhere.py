"""A step on another device than the CPU, checked without one: tensors of the "meta" device refuse to meet the CPU's and
have no values, so a constant left on the CPU and a step that waits for the device (`.item()`, `nonzero`) both raise."""

import pytest
import torch
from models import CLASSNAMES, random_clip

from cilmp.trainers.biomedcoop import BiomedCoOp
from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.cocoop import CoCoOp
from cilmp.trainers.coop import CoOp
from cilmp.trainers.kgcoop import KgCoOp
from cilmp.trainers.maple import MaPLe
from cilmp.trainers.method import Task
from cilmp.trainers.prograd import ProGrad
from cilmp.trainers.promptsrc import PromptSRC
from cilmp.trainers.tcp import TCP
from cilmp.trainers.vpt import VPT
from cilmp.trainers.zsclip import ZeroshotCLIP

pytestmark = pytest.mark.slow  # a step of every method

BOTH = dict(PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2)
DEPTHS = {CILMP: BOTH, PromptSRC: BOTH, VPT: dict(PROMPT_DEPTH_VISION=2), MaPLe: dict(PROMPT_DEPTH=2)}
DEPTHS |= {CoOp: dict(CSC=True), TCP: dict(CLASS_DEPTH=1)}


def build(kind, backbone="openai", **options):
    sentences = [[f"a {name}", f"one {name}"] for name in CLASSNAMES]
    task = Task(CLASSNAMES, states=[torch.randn(12, 20) for _ in CLASSNAMES], sentences=sentences)
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
        *((kind, {}) for kind in (KgCoOp, ProGrad, VPT, PromptSRC, TCP, BiomedCoOp)),
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
