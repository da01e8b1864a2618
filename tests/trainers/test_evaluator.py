"""Medical beside Dassl's own evaluator: its lines, in its order, and more."""

import math

import pytest
import torch

from cilmp.trainers.engine import evaluator
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.evaluator import Medical
from dassl.evaluation import Classification

NAMES = {0: "normal", 1: "benign", 2: "malignant", 3: "rare"}


@pytest.fixture
def cfg(tmp_path):
    cfg = default_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


def run(judge, batches):
    judge.reset()
    for logits, labels in batches:
        judge.process(logits, labels)
    return judge.evaluate()


def batches(classes=4, absent=None):
    torch.manual_seed(0)
    labels = torch.arange(48) % classes
    labels = labels[labels != absent] if absent is not None else labels
    logits = torch.randn(len(labels), classes) + 1.5 * torch.eye(classes)[labels]
    return list(zip(logits.split(20), labels.split(20), strict=True))


def test_its_lines_begin_as_dassl_s(cfg, capsys):
    cfg.TEST.PER_CLASS_RESULT = cfg.TEST.COMPUTE_CMAT = True
    theirs = run(Classification(cfg, NAMES), batches())
    expected = capsys.readouterr().out.splitlines()
    cmat = torch.load(f"{cfg.OUTPUT_DIR}/cmat.pt", weights_only=False)
    ours = run(Medical(cfg, NAMES), batches())
    printed = capsys.readouterr().out.splitlines()
    assert next(iter(ours)) == "accuracy" and all(ours[key] == pytest.approx(theirs[key]) for key in theirs)
    shared = [line for line in expected if not line.startswith("Confusion")]
    assert [line for line in printed if line in shared] == shared
    torch.testing.assert_close(torch.as_tensor(cmat), torch.load(f"{cfg.OUTPUT_DIR}/cmat.pt", weights_only=True))


def test_keeps_what_the_record_needs(cfg):
    judge = Medical(cfg, NAMES)
    run(judge, batches())
    assert judge.logits.shape == (48, 4) and judge.labels.shape == (48,)
    assert list(judge.scores["per_class"]) == list(NAMES.values())
    run(judge, batches(absent=3))
    assert len(judge.labels) == 36  # of the last test alone


def test_an_absent_class_is_said(cfg, capsys):
    judge = Medical(cfg, NAMES)
    results = run(judge, batches(absent=3))
    assert "No test image of rare" in capsys.readouterr().out
    assert math.isnan(judge.scores["per_class"]["rare"]) and not any(map(math.isnan, results.values()))


def test_graded_sets_get_quadratic_kappa(cfg, monkeypatch):
    """A data set whose classes form a scale says so of itself: `graded = True`."""
    monkeypatch.setattr(evaluator.DATASET_REGISTRY, "registered_names", lambda: ["GRADES"])
    monkeypatch.setattr(evaluator.DATASET_REGISTRY, "get", lambda name: type(name, (), {"graded": True}))
    cfg.DATASET.NAME = "GRADES"
    assert "quadratic_kappa" in run(Medical(cfg, NAMES), batches())
    cfg.DATASET.SUBSAMPLE_CLASSES = "base"  # some grades are no scale
    assert "quadratic_kappa" not in run(Medical(cfg, NAMES), batches())
