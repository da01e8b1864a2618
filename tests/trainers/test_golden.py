"""Parity with the reference implementations: logits, loss and gradients they gave on fixed numbers (golden/)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cilmp.clip import CLIP
from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.cocoop import CoCoOp
from cilmp.trainers.coop import CoOp
from cilmp.trainers.engine.checkpoints import rename
from cilmp.trainers.maple import MaPLe
from cilmp.trainers.method import Task

GOLDEN = Path(__file__).parents[1] / "golden"
TRAINERS = {"coop": CoOp, "cocoop": CoCoOp, "maple": MaPLe, "cilmp": CILMP}
NAMES = {
    "n_ctx": "N_CTX", "ctx_init": "CTX_INIT", "csc": "CSC", "class_token_position": "CLASS_TOKEN_POSITION",
    "prompt_depth": "PROMPT_DEPTH", "prompt_depth_text": "PROMPT_DEPTH_TEXT",
    "prompt_depth_vision": "PROMPT_DEPTH_VISION",
    "prefix_length": "PREFIX_LENGTH", "suffix_length": "SUFFIX_LENGTH", "low_rank_dimension": "LOW_RANK_DIMENSION",
    "dropout": "DROPOUT",
}  # fmt: skip


def read(name: str) -> tuple[dict, dict]:
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def build(name: str):
    """(the method as its trainer builds it, tensors of the golden file)."""
    tensors, said = read(name)
    trainer = TRAINERS[name.split("_")[0]]
    options = {}
    for key, value in said.items():
        if key in NAMES:
            options[NAMES[key]] = value if key in ("ctx_init", "class_token_position") else json.loads(value.lower())
    if trainer is CILMP:
        options["N_CTX_TEXT"] = options["N_CTX_VISION"] = int(said["n_ctx"])
        options.pop("N_CTX", None)
    classnames = json.loads(said["classnames"])
    clip = CLIP.from_state_dict(load_file(GOLDEN / "tiny_clip.safetensors"))
    if trainer in (CoOp, CoCoOp):
        # The reference halves every CLIP it loads, then widens it: nothing to OpenAI's files, which are half already.
        for module in clip.cast("fp16").modules():
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    states = [tensors[f"llm.{name}"] for name in classnames] if trainer is CILMP else None
    return trainer.build(clip, Task(classnames, states=states), **options), tensors


def of_tiny_clip(name: str) -> bool:
    """Of a method here, on tiny_clip; those of other backbones are tested in test_golden_biomedclip.py."""
    return name.split("_")[0] in TRAINERS and "biomed" not in name


@pytest.mark.parametrize("literal", [False, True], ids=["fast", "literal"])
@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("*.safetensors") if of_tiny_clip(p.stem)))
def test_reference_numbers(name, literal):
    model, golden = build(name)
    model.literal = literal
    ours = dict(model.named_parameters())
    theirs = {rename(k[6:], model.renames): v for k, v in golden.items() if k.startswith("param.")}
    assert set(theirs) == {k for k, p in ours.items() if p.requires_grad}
    for key, value in theirs.items():
        ours[key].data.copy_(value)

    model.eval()
    with torch.no_grad():
        assert (model(golden["images"]) - golden["logits"]).abs().max() < 1e-5
        assert (model.infer(golden["images"]) - golden["logits"]).abs().max() < 1e-5
    model.train()
    losses, _ = model.losses(golden["images"], golden["labels"])
    loss = sum(losses.values())
    loss.backward()
    assert abs(loss - golden["loss"]) < 1e-5
    for key, value in golden.items():
        if key.startswith("grad."):
            grad = ours[rename(key[5:], model.renames)].grad
            assert (grad - value).norm() <= 1e-4 * value.norm(), key
