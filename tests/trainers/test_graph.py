"""When a training's steps are replayed from a CUDA graph; that they are right is shown on a GPU (tests/test_gpu.py)."""

import pytest
import torch

from cilmp.errors import UserError
from cilmp.trainers.engine import graph, parallel
from cilmp.trainers.engine.config import default_cfg, merge, read_yaml

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


@pytest.mark.parametrize(("device", "processes", "word"), [(CPU, 1, "on cpu"), (CUDA, 2, "several processes")])
def test_what_cannot_be_is_refused(monkeypatch, device, processes, word):
    monkeypatch.setattr(parallel, "size", lambda: processes)
    with pytest.raises(UserError, match=word) as told:
        graph.wanted("on", device, 1000)
    assert "TRAIN.CUDA_GRAPH" in str(told.value) and "auto" in str(told.value)


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_a_yaml_may_say_it(tmp_path, word):
    cfg, path = default_cfg(), tmp_path / "mine.yaml"
    path.write_text(f"TRAIN:\n  CUDA_GRAPH: {word}\n")
    cfg.TRAINER.NAME = "CoOp"
    merge(cfg, read_yaml(str(path), cfg), str(path))
    assert cfg.TRAIN.CUDA_GRAPH == word
