"""Parity with the reference implementations: logits, losses and gradients they gave on fixed numbers (golden/)."""

import pytest
import torch
from reference import FEATURES, FILES, KINDS, build, load, named, stand_in

from cilmp.clip import attention
from cilmp.trainers.method import normalise

EVERY = [name for name in FILES if name != "promptsrc_gpa"]  # that one is of training: test_golden_training.py

NONE = {  # trainers without such a file, and why
    "ZeroshotCLIP": "CLIP itself, held to OpenAI's own class in tests/clip",
    "ZeroshotCLIP2": "as ZeroshotCLIP",
    "LinearProbe": "scikit-learn's own solver",
    "FullFineTune": "no reference is published",
}


def test_every_trainer_has_its_numbers_or_a_reason():
    told = {name.split("_")[0] for name in FILES} | {name.lower() for name in (*NONE, *FEATURES.values())}
    assert told == KINDS.keys()


@pytest.mark.parametrize("name", EVERY)
def test_reference_start(name):
    """What words and frozen weights decide: the teachers' features, and parameters right after construction."""
    _, model, golden, _ = build(name)
    start = named("init", golden, model)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in start.items())
    teacher = getattr(model, "teacher", None)
    assert (teacher is not None) or name.split("_")[0] not in ("kgcoop", "prograd", "promptsrc", "tcp", "biomedcoop")
    if teacher is not None:
        assert (normalise(teacher) - normalise(golden["teacher.text"])).abs().max() < 1e-6


WAYS = ["fast", "fast as on a GPU", pytest.param("literal", marks=pytest.mark.slow)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EVERY)
def test_reference_numbers(name, way, monkeypatch):
    kind, model, golden, options = build(name)
    model.literal = way == "literal"
    if way == "fast as on a GPU":
        monkeypatch.setattr(attention, "SINGLE", ())
    load(model, named("param", golden, model))

    model.eval()
    with torch.no_grad():
        assert (model(golden["images"]) - golden["logits"]).abs().max() < 1e-5
        assert (model.infer(golden["images"]) - golden["logits"]).abs().max() < 1e-5
    model.train()
    losses, _ = model.losses(golden["images"], golden["labels"])
    terms = {key[5:]: value for key, value in golden.items() if key.startswith("loss.")} or {"ce": golden["loss"]}
    assert losses.keys() == terms.keys()
    for term, value in terms.items():
        assert abs(losses[term] - value) < 1e-5, term
    stand_in(kind, model, options).backward(losses)
    ours = dict(model.named_parameters())
    for key, value in named("grad", golden, model).items():
        assert (ours[key].grad - value).norm() <= 1e-4 * value.norm(), key
