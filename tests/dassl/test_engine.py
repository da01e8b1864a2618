"""The loop: what a third party's trainer may rely on, from the first line of the log to a resumed run."""

import os
import re
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from dassl.engine import TrainerX, build_trainer
from dassl.engine.trainer import TrainerBase, TrainerXU
from dassl.evaluation import EVALUATOR_REGISTRY, EvaluatorBase
from dassl.utils import load_checkpoint, set_random_seed
from dassl.utils.logger import Logger, setup_logger

PROGRESS = re.compile(
    r"epoch \[(\d+)/5\] batch \[(\d+)/2\] time \d+\.\d{3} \(\d+\.\d{3}\) data \d+\.\d{3} \(\d+\.\d{3}\) "
    r"loss \d+\.\d{4} \(\d+\.\d{4}\) acc \d+\.\d{4} \(\d+\.\d{4}\) lr (\d\.\d{4}e-\d\d) eta \d+:\d\d:\d\d"
)


def parse(log, signal, keyword="accuracy"):
    """The last number behind a line that equals the signal: how the field's parse_test_res.py reads a log."""
    armed, found = False, None
    for line in log.splitlines():
        armed = armed or line.strip() == signal
        match = re.search(rf"\* {keyword}: ([\.\deE+-]+)%", line)
        if armed and match:
            found = float(match.group(1))
    return found


@pytest.fixture
def console(monkeypatch):
    """Give standard output back after setup_logger."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)


def test_trains_saves_tests_and_prints(cfg, console):
    set_random_seed(1)
    setup_logger(cfg.OUTPUT_DIR)
    trainer = build_trainer(cfg)
    trainer.train()
    accuracy = trainer.test()
    sys.stdout.flush()
    with open(f"{cfg.OUTPUT_DIR}/log.txt") as file:
        log = file.read()
    lines = [PROGRESS.fullmatch(line) for line in log.splitlines() if line.startswith("epoch [")]
    assert [(m[1], m[2]) for m in lines] == [(str(e), str(b)) for e in range(1, 6) for b in (1, 2)]
    assert lines[1][3] == "3.5000e-03"  # behind the last batch the next epoch's rate is shown
    assert trainer.rates[::2] == pytest.approx([1e-5, 3.5e-3, 3.1658e-3, 2.2908e-3, 1.2092e-3], rel=1e-4)
    for line in ("No checkpoint found, train from scratch", "Deploy the last-epoch model", "* total: 24"):
        assert line in log.splitlines()
    assert "Evaluate on the *test* set" in log and re.search(r"^Elapsed: \d+:\d\d:\d\d$", log, re.M)
    for signal in ("Finish training", "Finished training", "=> result"):
        assert parse(log, signal) == pytest.approx(accuracy, abs=0.051)


def test_only_what_is_registered_changes_mode(cfg):
    trainer = build_trainer(cfg)
    trainer.set_model_mode("train")
    assert trainer.model["head"].training and not trainer.model["encoder"].training
    trainer.set_model_mode("eval")
    assert not trainer.model["head"].training
    state = trainer._models["head"].state_dict()
    del state["bias"]
    assert trainer._models["head"].load_state_dict(state, strict=False).missing_keys == ["bias"]


def test_registering(cfg):
    class Early(TrainerBase):
        def __init__(self):
            self.register_model("model")

    with pytest.raises(AttributeError):
        Early()
    base = TrainerBase()
    base.register_model("a", nn.Linear(1, 1))
    with pytest.raises(AssertionError):
        base.register_model("a", nn.Linear(1, 1))
    assert base.get_model_names() == base.get_model_names("a") == base.get_model_names(["a"]) == ["a"]
    with pytest.raises(AssertionError, match="'b'"):
        base.get_model_names("b")


def one_layer(lr=0.1):
    base, layer = TrainerBase(), nn.Linear(2, 1, bias=False)
    base.register_model("layer", layer, torch.optim.SGD(layer.parameters(), lr=lr))
    return base, layer


def test_a_loss_that_is_not_finite_stops_before_a_parameter_changes():
    base, layer = one_layer()
    before = layer.weight.clone()
    for bad in ("nan", "inf"):
        with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!"):
            base.model_backward_and_update(layer.weight.sum() * float(bad))
    assert torch.equal(layer.weight, before) and layer.weight.grad is None


def test_prograd_projects_only_what_conflicts():
    """Gradients a = (1, 0), b = (-1, 1): a - <a, n> n = (1/2, 1/2) with n = b / |b|; b = (1, 1) changes nothing."""
    for b, expected in (((-1.0, 1.0), (0.5, 0.5)), ((1.0, 1.0), (1.0, 0.0))):
        base, layer = one_layer(lr=1.0)
        before = layer.weight.detach().clone()
        out = layer.weight[0]
        base.prograd_backward_and_update(out @ torch.tensor([1.0, 0.0]), out @ torch.tensor(b))
        torch.testing.assert_close((before - layer.weight)[0].detach(), torch.tensor(expected))


def run(cfg, stop=None):
    """Train with another random state than before; stop: kill before this epoch."""
    set_random_seed(1)
    trainer = build_trainer(cfg)
    torch.rand(3)
    if stop is not None:

        def killed():
            if trainer.epoch == stop:
                raise KeyboardInterrupt

        trainer.before_epoch = killed
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        del trainer.before_epoch  # a trainer left to the garbage collector waits five seconds for each worker
    else:
        trainer.train()
    return trainer


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_at_any_epoch_the_run_ends_the_same(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS, cfg.TRAIN.CHECKPOINT_FREQ, folder = workers, 1, cfg.OUTPUT_DIR
    whole = run(cfg)
    for stop in range(1, 5) if not workers else (3,):
        cfg.OUTPUT_DIR = f"{folder}-{stop}"
        cut = run(cfg, stop)
        resumed = run(cfg)
        assert resumed.start_epoch == stop
        assert cut.rates + resumed.rates == whole.rates
        assert torch.equal(resumed.model["head"].weight, whole.model["head"].weight)


def test_checkpoint_layout_and_a_finished_run(cfg):
    run(cfg)
    folder = f"{cfg.OUTPUT_DIR}/head"
    assert sorted(os.listdir(folder)) == ["checkpoint", "model.pth.tar-5"]
    with open(f"{folder}/checkpoint") as file:
        assert file.read() == "model.pth.tar-5\n"
    saved = torch.load(f"{folder}/model.pth.tar-5", weights_only=True)
    assert {"state_dict", "epoch", "optimizer", "scheduler", "val_result"} <= set(saved)
    assert (saved["epoch"], saved["val_result"]) == (5, None)
    again = run(cfg)
    assert again.start_epoch == 5 and again.rates == []
    again.model["head"].weight.data.zero_()
    again.load_model(cfg.OUTPUT_DIR, epoch=5)
    assert torch.equal(again.model["head"].weight, saved["state_dict"]["weight"])
    with pytest.raises(FileNotFoundError, match="model-best"):
        again.load_model(cfg.OUTPUT_DIR)
    cfg.TRAIN.CHECKPOINT_FREQ, cfg.OUTPUT_DIR = 2, f"{cfg.OUTPUT_DIR}-2"
    run(cfg)
    assert {f"model.pth.tar-{n}" for n in (2, 4, 5)} < set(os.listdir(f"{cfg.OUTPUT_DIR}/head"))


def test_the_best_on_validation_is_deployed(cfg, capsys):
    """An evaluator with a score of its own: epoch 2 is best, whatever comes behind."""
    scores = iter([10.0, 30.0, 20.0, 30.0, 5.0, 77.0])

    @EVALUATOR_REGISTRY.register(force=True)
    class Scripted(EvaluatorBase):
        def __init__(self, cfg, lab2cname=None, **kwargs):
            super().__init__(cfg)

        def reset(self):
            self.seen = 0

        def process(self, mo, gt):
            self.seen += len(gt)

        def evaluate(self):
            return OrderedDict(score=next(scores), seen=self.seen)

    cfg.TEST.EVALUATOR, cfg.TEST.FINAL_MODEL = "Scripted", "best_val"
    trainer = run(cfg)
    best = load_checkpoint(f"{cfg.OUTPUT_DIR}/head/model-best.pth.tar")
    assert (best["epoch"], best["val_result"]) == (2, 30.0)
    assert torch.equal(trainer.model["head"].weight, best["state_dict"]["weight"])
    assert "Deploy the model with the best val performance" in capsys.readouterr().out
    assert next(scores, None) is None


def test_without_validation_the_test_set_stands_in(cfg, capsys):
    cfg.DATASET.VAL_PERCENT = 0.0
    trainer = build_trainer(cfg)
    assert trainer.val_loader is None
    trainer.test("val")
    out = capsys.readouterr().out
    assert "There is no validation set" in out and "* total: 24" in out


def test_other_settings_in_the_same_folder_are_named(cfg):
    run(cfg)
    trainer = build_trainer(cfg)
    trainer._models["head"] = nn.Linear(9, 3)
    with pytest.raises(ValueError, match="other settings"):
        trainer.train()


def test_labelled_and_unlabelled(cfg):
    seen = []

    class Both(TrainerXU):
        def build_model(self):
            self.train_loader_u = self.test_loader  # 3 batches, against 2
            self.register_model("net", nn.Linear(1, 1))

        def forward_backward(self, batch_x, batch_u):
            seen.append([len(part) for part in self.parse_batch_train(batch_x, batch_u)])

        def get_current_lr(self, names=None):
            return 0.0

    cfg.DATALOADER.TEST.BATCH_SIZE, cfg.TEST.NO_TEST, cfg.OPTIM.MAX_EPOCH = 10, True, 1
    for count, batches in (("train_x", 2), ("train_u", 3), ("smaller_one", 2)):
        cfg.TRAIN.COUNT_ITER = count
        seen.clear()
        trainer = Both(cfg)
        trainer.after_epoch = lambda: None
        trainer.train()
        assert len(seen) == batches and seen[0] == [8, 8, 10]


def test_unknown_trainer_suggests_the_nearest(cfg):
    cfg.TRAINER.NAME = "Promptd"
    with pytest.raises(ValueError, match="Did you mean 'Prompted'"):
        build_trainer(cfg)


def test_vanilla_on_a_torchvision_backbone(cfg):
    cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PRETRAINED = "Vanilla", "resnet18", False
    cfg.MODEL.HEAD.NAME, cfg.MODEL.HEAD.HIDDEN_LAYERS, cfg.OPTIM.MAX_EPOCH = "mlp", (16,), 1
    cfg.INPUT.SIZE = (32, 32)
    trainer = build_trainer(cfg)
    assert isinstance(trainer, TrainerX) and trainer.model.fdim == 16
    trainer.train()
    assert os.path.exists(f"{cfg.OUTPUT_DIR}/model/model.pth.tar-1")


def test_logger_is_a_stream_and_leaves_the_console_open(tmp_path, console):
    setup_logger(str(tmp_path))
    assert sys.stdout.encoding and isinstance(sys.stdout.isatty(), bool)
    print("one")
    logger = sys.stdout
    assert isinstance(logger, Logger)
    sys.stdout = logger.console
    setup_logger(str(tmp_path))
    print("two")
    sys.stdout.close()
    logger.close()
    assert not logger.console.closed
    assert (tmp_path / "log.txt").read_text() == "one\n"
    (dated,) = tmp_path.glob("log.txt-*")
    assert re.fullmatch(r"log\.txt-\d{4}(-\d\d){5}", dated.name) and dated.read_text() == "two\n"


@pytest.mark.slow
def test_imports_of_third_parties_without_what_the_original_needs():
    """In a process where wilds, gdown and tensorboard cannot be imported."""
    code = """
import sys
for name in ("wilds", "gdown", "tensorboard", "torch_scatter", "network"): sys.modules[name] = None
from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.engine.trainer import AverageMeter, MetricMeter, SummaryWriter, TrainerX
from dassl.data import DataManager
from dassl.data.data_manager import DataManager, DatasetWrapper
from dassl.data.datasets import DATASET_REGISTRY, Datum, DatasetBase
from dassl.data.datasets.base_dataset import Datum
from dassl.data.transforms import build_transform
from dassl.evaluation import EVALUATOR_REGISTRY, EvaluatorBase, build_evaluator
from dassl.metrics import compute_accuracy
from dassl.modeling import BACKBONE_REGISTRY, HEAD_REGISTRY, NETWORK_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.radam import RAdam
from dassl.utils import (
    AverageMeter, Logger, MetricMeter, Registry, check_availability, check_isfile, collect_env_info, count_num_param,
    download_url, get_most_similar_str_to_a_from_b, init_network_weights, listdir_nohidden, load_checkpoint,
    load_pretrained_weights, mkdir_if_missing, open_all_layers, open_specified_layers, read_image, read_json,
    resume_from_checkpoint, save_checkpoint, set_random_seed, setup_logger, tolist_if_not, write_json)
from dassl.utils.tools import mkdir_if_missing
SummaryWriter(log_dir="nowhere").add_scalar("a", 1.0, 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_read_when_they_are_printed():
    """A tensor goes in as it is and comes out as a number: no step waits for a device."""
    from dassl.utils import MetricMeter

    class Unread(torch.Tensor):
        def item(self):
            raise AssertionError("read while training")

        __float__ = item

    meter = MetricMeter()
    for value in (1.0, 3.0):
        meter.update({"loss": torch.tensor(value).as_subclass(Unread), "n": np.float32(2.0)})
    for part in ("_val", "_sum"):
        setattr(meter.meters["loss"], part, getattr(meter.meters["loss"], part).as_subclass(torch.Tensor))
    assert str(meter) == "loss 3.0000 (2.0000) n 2.0000 (2.0000)"
    with pytest.raises(TypeError):
        meter.update(3.0)
