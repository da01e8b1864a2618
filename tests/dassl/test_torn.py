"""A checkpoint that was not written to its end: a run goes on from the last whole one, and says so."""

import os

import pytest
import torch
from torch import nn

from dassl.engine.trainer import TrainerBase
from dassl.utils import resume_from_checkpoint

DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "zeros behind": lambda content: content[: len(content) // 2] + bytes(len(content) // 2),
    "text": lambda content: b"no space left on device",
}


def trainer() -> TrainerBase:
    base = TrainerBase()
    for name in ("a", "b"):
        layer = nn.Linear(1, 1)
        base.register_model(name, layer, torch.optim.SGD(layer.parameters(), lr=0.1))
    return base


def weight(base: TrainerBase) -> list[float]:
    return [model.weight.item() for model in base._models.values()]


@pytest.fixture
def folder(tmp_path):
    """Three epochs of two models, whose weights are the finished epochs."""
    base = trainer()
    for epoch in range(3):
        for model in base._models.values():
            nn.init.constant_(model.weight, epoch + 1)
        base.save_model(epoch, str(tmp_path))
    return tmp_path


def tear(path, how: str) -> None:
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("torn, expected", [(["a-3"], 2), (["b-3"], 2), (["a-3", "b-2"], 1), (["a-1", "b-1"], 3)])
def test_the_last_whole_epoch_of_all_models_is_taken(folder, capsys, how, torn, expected):
    for model, epoch in (name.split("-") for name in torn):
        tear(folder / model / f"model.pth.tar-{epoch}", how)
    base = trainer()
    assert base.resume_model_if_exist(str(folder)) == expected
    assert weight(base) == [expected] * 2
    said = capsys.readouterr().out
    assert said.count("not a checkpoint, or damaged: looking for an older one") == 3 - expected


@pytest.mark.parametrize("how", DAMAGE)
def test_where_nothing_is_whole_the_run_begins_anew(folder, capsys, how):
    for epoch in (1, 2, 3):
        tear(folder / "a" / f"model.pth.tar-{epoch}", how)
    base = trainer()
    before = weight(base)
    assert base.resume_model_if_exist(str(folder)) == 0
    assert weight(base) == before and "No whole checkpoint found, train from scratch" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="No whole checkpoint"):
        resume_from_checkpoint(str(folder / "a"), nn.Linear(1, 1))


@pytest.mark.parametrize("pointer", [b"", b"\0" * 16, b"model.pth.tar-9\n"])
def test_a_pointer_to_nothing_is_passed_over(folder, pointer):
    for model in ("a", "b"):
        (folder / model / "checkpoint").write_bytes(pointer)
    assert trainer().resume_model_if_exist(str(folder)) == 3


def test_models_of_different_epochs_are_not_mixed(folder):
    """Killed between the two models' best: one best is of epoch 3, the other of epoch 2."""
    base = trainer()
    for epoch in (1, 2):
        base.save_model(epoch, str(folder), model_name="model-best.pth.tar")
        if epoch == 1:
            kept = (folder / "b" / "model-best.pth.tar").read_bytes()
    (folder / "b" / "model-best.pth.tar").write_bytes(kept)
    base = trainer()
    assert base.resume_model_if_exist(str(folder)) == 3 and weight(base) == [3, 3]


def test_what_is_whole_and_foreign_is_refused_and_not_passed_over(folder):
    victim = folder / "victim"

    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {victim}",)

    torch.save({"state_dict": {}, "epoch": 3, "scheduler": Touch()}, folder / "a" / "model.pth.tar-3")
    base = trainer()
    try:
        base.resume_model_if_exist(str(folder))
    except ValueError as error:
        assert "model.pth.tar-3" in str(error)
    assert not victim.exists()
