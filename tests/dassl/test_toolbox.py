"""Configuration, checkpoints, evaluator, registries."""

import os
import subprocess

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    Registry,
    check_availability,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
    setup_logger,
)


def leaves(node, prefix=""):
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.") if hasattr(value, "items") else [(prefix + key, value)]


def test_defaults():
    found = dict(leaves(get_cfg_default()))
    assert len(found) == 135
    assert (found["OPTIM.LR"], found["OPTIM.STEPSIZE"], found["SEED"]) == (3e-4, (-1,), -1)
    get_cfg_default().OPTIM.LR = 1.0
    assert get_cfg_default().OPTIM.LR == 3e-4  # each call gives a tree of its own


def test_types_and_merging(tmp_path):
    cfg = get_cfg_default()
    cfg.merge_from_list(["INPUT.SIZE", "[32, 32]", "OPTIM.LR", "1e-5", "DATALOADER.TRAIN_X.BATCH_SIZE", "4"])
    assert (cfg.INPUT.SIZE, cfg.OPTIM.LR) == ((32, 32), 1e-5)
    for key, value in (("OPTIM.LR", "1"), ("OPTIM.MAX_EPOCH", "1.0"), ("TEST.NO_TEST", "yes"), ("OUTPUT_DIR", "3")):
        with pytest.raises(ValueError, match="[Tt]ype"):
            cfg.merge_from_list([key, value])
    with pytest.raises(AssertionError):
        cfg.merge_from_list(["OPTIM.SPEED", "1"])
    path = tmp_path / "a.yaml"
    path.write_text("OPTIM:\n  SPEED: 1\n")
    with pytest.raises(KeyError):
        cfg.merge_from_file(str(path))
    assert cfg.DATALOADER.TRAIN_U.BATCH_SIZE == 32
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    clean_cfg(cfg, "CoOp")
    assert set(cfg.TRAINER) == {"NAME", "COOP"}
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SEED = 1


def cosine(epochs, warm):
    optim = get_cfg_default().OPTIM
    optim.NAME, optim.LR, optim.MAX_EPOCH, optim.LR_SCHEDULER, optim.WARMUP_EPOCH = "sgd", 0.1, epochs, "cosine", warm
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer(layer, optim)
    return layer, optimizer, build_lr_scheduler(optimizer, optim)


OLD = not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint")


@pytest.mark.skipif(OLD, reason="before PyTorch 2.6 a foreign checkpoint is refused")
def test_a_checkpoint_of_0_6_3_is_read_without_running_what_it_holds(tmp_path):
    """Its warm-up pickled the schedule behind it, with an optimizer of its own; val_result may be NumPy's."""
    layer, optimizer, scheduler = cosine(8, 1)
    own = CosineAnnealingLR(torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9), 8)
    layer(torch.ones(1, 2)).sum().backward()
    own.optimizer.step()  # its buffers are in a defaultdict
    old = {
        "state_dict": layer.state_dict(),
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"last_epoch": 3, "warmup_epoch": 1, "base_lrs": [0.1], "successor": own},
        "val_result": np.float64(51.25),
    }
    torch.save(old, tmp_path / "model.pth.tar-3")
    (tmp_path / "checkpoint").write_text("model.pth.tar-3\n")
    assert load_checkpoint(str(tmp_path / "model.pth.tar-3"))["val_result"] == 51.25
    fresh, its_optimizer, its_scheduler = cosine(8, 1)
    assert resume_from_checkpoint(str(tmp_path), fresh, its_optimizer, its_scheduler) == 3
    assert torch.equal(fresh.weight, layer.weight)
    layer.zero_grad()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    for _ in range(5):  # the rate is that of epoch 3, and goes on
        assert its_optimizer.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"])
        for each in (optimizer, scheduler, its_optimizer, its_scheduler):
            each.step()


class Touch:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    victim, path = tmp_path / "victim", str(tmp_path / "bad")
    for harm in (Touch(subprocess.call, ["touch", str(victim)]), Touch(os.system, f"touch {victim}"), Touch(eval, "1")):
        torch.save({"state_dict": {}, "epoch": 1, "scheduler": harm}, path)
        try:
            load_checkpoint(path)
        except ValueError as error:
            assert path in str(error)
        assert not victim.exists()


def test_unreadable_checkpoints_are_named(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    torch.save({"a": torch.zeros(1000)}, good)
    for content in (b"hello", b"", good.read_bytes()[:900]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=str(bad)):
            load_checkpoint(str(bad))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(str(tmp_path / "nowhere"))


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    state = {"state_dict": {"module.weight": torch.ones(1)}, "epoch": 1}
    save_checkpoint(state, str(tmp_path))
    assert list(load_checkpoint(str(tmp_path / "model.pth.tar-1"))["state_dict"]) == ["weight"]

    def dies(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint({**state, "epoch": epoch}, str(tmp_path))
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"
    assert load_checkpoint(str(tmp_path / "model.pth.tar-1"))["epoch"] == 1
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.pth.tar-1"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """After a power failure a name stands for a whole file or for none."""
    happened, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (happened.append(os.fstat(number).st_size), sync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (happened.append(os.path.basename(b)), replace(a, b)))
    save_checkpoint({"state_dict": {}, "epoch": 1}, str(tmp_path), is_best=True)
    sizes = [os.path.getsize(tmp_path / name) for name in happened[1::2]]
    assert happened[1::2] == ["model.pth.tar-1", "model-best.pth.tar", "checkpoint"] and happened[::2] == sizes


def test_pretrained_weights_that_fit(tmp_path, capsys):
    torch.save({"state_dict": {"module.weight": torch.ones(2, 2), "bias": torch.ones(3)}}, tmp_path / "w")
    layer = nn.Linear(2, 2)
    bias = layer.bias.detach().clone()
    load_pretrained_weights(layer, str(tmp_path / "w"))
    assert torch.equal(layer.weight, torch.ones(2, 2)) and torch.equal(layer.bias, bias)
    torch.save({"other": torch.ones(1)}, tmp_path / "w")
    capsys.readouterr()
    load_pretrained_weights(layer, str(tmp_path / "w"))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Loaded 0 of the model's 2 entries")
    assert said[1].startswith("Warning: 1 of the 1 entries of") and said[1].endswith("are not used: other")
    assert said[2].startswith("Warning: 2 of the 2 entries of the model are not in") and said[2].endswith(
        "bias, weight"
    )
    torch.save([1, 2], tmp_path / "w")
    with pytest.raises(ValueError, match="holds no weights"):
        load_pretrained_weights(layer, str(tmp_path / "w"))


def test_evaluator(tmp_path, capsys):
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT, cfg.TEST.COMPUTE_CMAT, cfg.OUTPUT_DIR = True, True, str(tmp_path)
    evaluator = build_evaluator(cfg, lab2cname={0: "cat", 1: "dog", 2: "eel"})
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (1200,))  # no eel in the test
    logits = torch.randn(1200, 3) + 2 * nn.functional.one_hot(labels, 3)
    for part in range(0, 1200, 500):
        evaluator.process(logits[part : part + 500], labels[part : part + 500])
    results = evaluator.evaluate()
    predicted = logits.argmax(1)
    right = predicted == labels
    accuracy = 100 * right.double().mean().item()
    macro = 100 * f1_score(labels, predicted, average="macro", labels=[0, 1])
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    each = [100 * right[labels == k].double().mean().item() for k in (0, 1)]
    assert list(results.values()) == pytest.approx([accuracy, 100 - accuracy, macro, sum(each) / 2])
    counts = [((labels == k).sum().item(), right[labels == k].sum().item()) for k in (0, 1)]
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "=> result",
        "* total: 1,200",
        f"* correct: {right.sum().item():,}",
        f"* accuracy: {accuracy:.1f}%",
        f"* error: {100 - accuracy:.1f}%",
        f"* macro_f1: {macro:.1f}%",
        "=> per-class result",
        f"* class: 0 (cat)\ttotal: {counts[0][0]:,}\tcorrect: {counts[0][1]:,}\tacc: {each[0]:.1f}%",
        f"* class: 1 (dog)\ttotal: {counts[1][0]:,}\tcorrect: {counts[1][1]:,}\tacc: {each[1]:.1f}%",
        f"* average: {sum(each) / 2:.1f}%",
    ]
    confusion = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert confusion[0, 0].item() == pytest.approx(each[0] / 100)
    evaluator.reset()
    with pytest.raises(RuntimeError, match="empty"):
        evaluator.evaluate()


def test_accuracy():
    output = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    target = torch.tensor([0, 0, 1, 2])
    assert [a.item() for a in compute_accuracy((output, None), target, topk=(1, 2))] == [25.0, 75.0]


def test_registry():
    registry = Registry("THING")

    @registry.register()
    class One:
        pass

    class Three:
        pass

    assert registry.register(Three) is Three
    assert registry.get("One") is One and registry.registered_names() == ["One", "Three"]
    with pytest.raises(KeyError):
        registry.register(One)
    assert registry.register(One, force=True) is One
    with pytest.raises(KeyError):
        registry.get("Two")
    with pytest.raises(ValueError) as empty:
        check_availability("Two", Registry("EMPTY").registered_names(), "MODEL.NETWORK.NAME")
    assert str(empty.value) == "MODEL.NETWORK.NAME: 'Two' is unknown: nothing is registered there"


def test_a_log_file_by_name(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    setup_logger(str(tmp_path / "deep" / "own.txt"))
    print("here", flush=True)
    assert (tmp_path / "deep" / "own.txt").read_text() == "here\n"
