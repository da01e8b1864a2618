"""When a training's steps are replayed from a CUDA graph; that they are right is shown on a GPU (tests/test_gpu.py)."""

import random
from contextlib import contextmanager
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from reference import KINDS, stand_in
from step import TOY_STATES, toy
from yacs.config import CfgNode

from cilmp.analysis.flops import build
from cilmp.errors import UserError
from cilmp.trainers.coop import CoOp
from cilmp.trainers.engine import graph, parallel
from cilmp.trainers.engine.config import default_cfg, merge, read_yaml

IN_STEPS = [kind.__name__ for kind in KINDS.values() if kind.steps == "images"]
CASES = [pytest.param(name, marks=() if name in ("CILMP", "CoOp") else pytest.mark.slow) for name in IN_STEPS]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("mode", "device", "steps", "processes", "expected"),
    [
        ("auto", CUDA, graph.PAYS, 1, True),
        ("auto", CUDA, graph.PAYS - 1, 1, False),
        ("auto", CUDA, 1000, 2, False),
        ("auto", CPU, 1000, 1, False),
        ("off", CUDA, 1000, 1, False),
        ("on", CUDA, 1, 1, True),
    ],
)
def test_where_it_pays(monkeypatch, mode, device, steps, processes, expected):
    monkeypatch.setattr(parallel, "size", lambda: processes)
    assert graph.wanted(mode, device, steps) is expected


def test_only_steps_of_this_house_are_replayed_unasked():
    ours = stand_in(CoOp, build("CoOp", toy(), ["nodule", "cyst"], TOY_STATES), CfgNode(CoOp.defaults))
    assert graph.of_this_house(ours)
    theirs = type("Theirs", (CoOp,), {"__module__": "elsewhere"})
    assert not graph.of_this_house(stand_in(theirs, ours.model, CfgNode(CoOp.defaults)))
    ours.model.__class__ = type("Method", (type(ours.model),), {"__module__": "elsewhere"})
    assert not graph.of_this_house(ours)
    assert not graph.wanted("auto", CUDA, 1000, steady=False) and graph.wanted("on", CUDA, 1000, steady=False)


@pytest.mark.parametrize(("device", "processes", "word"), [(CPU, 1, "on cpu"), (CUDA, 2, "several processes")])
def test_what_cannot_be_is_refused(monkeypatch, device, processes, word):
    monkeypatch.setattr(parallel, "size", lambda: processes)
    with pytest.raises(UserError, match=word) as told:
        graph.wanted("on", device, 1000)
    assert "TRAIN.CUDA_GRAPH" in str(told.value) and "auto" in str(told.value)


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(1)])
def test_a_draw_on_the_host_is_seen(draw):
    before = graph.drawn_on_the_host()
    assert graph.drawn_on_the_host() == before
    draw()
    assert graph.drawn_on_the_host() != before


def test_a_setting_of_a_module_is_seen():
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(2, 2))
    before = graph.settings(model)
    model.eval()
    assert graph.settings(model) == before
    model[0].p = 0.2
    assert graph.settings(model) != before


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_ours_draws_nothing_on_the_host_and_keeps_its_settings(name):
    """On `meta`, whose draws are a device's; otherwise its graph would not be captured."""
    model = build(name, toy(), ["nodule", "cyst"], TOY_STATES).to("meta").train()
    trainer = stand_in(KINDS[name.lower()], model, CfgNode(KINDS[name.lower()].defaults))
    before = graph.drawn_on_the_host(), graph.settings(model)
    image, label = torch.empty(2, 3, 32, 32, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    trainer.gradients(image, label)
    assert (graph.drawn_on_the_host(), graph.settings(model)) == before


class Captured(graph.Replayed):
    """A stand-in for a graph on the CPU: the step on the captured tensors."""

    def capture(self, image, label):
        self.image, self.label, self.settings = image.clone(), label.clone(), graph.settings(self.model)
        self.result, self.slopes = {}, [torch.zeros_like(p) for p in self.parameters]
        self.graph, self.replays = self, 0

    def replay(self):
        self.replays += 1
        for slope, own in zip(
            self.slopes, torch.autograd.grad(loss(self.model, self.image), self.parameters), strict=True
        ):
            slope.copy_(own)


def loss(model, image):
    return (model.weight * image.sum() * model.factor).sum()


def test_another_shape_and_another_setting_are_launched_as_ever(capsys):
    model, launched = torch.nn.Linear(3, 1, bias=False), []
    model.factor = 2.0

    def step(image, label):
        launched.append(image.shape)
        model.zero_grad()
        loss(model, image).backward()
        return {}, label

    replayed = Captured(step, model)
    for i, size in enumerate((4, 4, 2, 4)):
        replayed(torch.full((size,), float(i)), torch.zeros(size))
        assert model.weight.grad[0, 0] == 2 * i * size
    assert replayed.replays == 3 and launched == [(2,)]
    model.factor = 5.0
    replayed.look()
    replayed(torch.ones(4), torch.zeros(4))
    assert model.weight.grad[0, 0] == 20 and replayed.replays == 3
    assert "have changed" in capsys.readouterr().out


def test_a_capture_that_fails_is_one_line(monkeypatch):
    stand_in = MagicMock()
    stand_in.CUDAGraph, stand_in.get_sync_debug_mode.return_value = object, 0

    @contextmanager
    def broken(whole, capture_error_mode):
        try:
            yield
        finally:
            raise RuntimeError("capture ended")

    def step(image, label):
        if stand_in.set_rng_state.called:  # behind the steps that warm up
            raise RuntimeError("out of memory.\nA long story")
        return {}, label

    stand_in.graph = broken
    monkeypatch.setattr(torch, "cuda", stand_in)
    with pytest.raises(UserError, match=r"\(out of memory\): set TRAIN.CUDA_GRAPH off\.$"):
        graph.Replayed(step, torch.nn.Linear(1, 1))(torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_a_yaml_may_say_it(tmp_path, word):
    cfg, path = default_cfg(), tmp_path / "mine.yaml"
    path.write_text(f"TRAIN:\n  CUDA_GRAPH: {word}\n")
    cfg.TRAINER.NAME = "CoOp"
    merge(cfg, read_yaml(str(path), cfg), str(path))
    assert cfg.TRAIN.CUDA_GRAPH == word
