"""Trainers that read class sentences: with them, without them, and what a run's record says of them."""

import json

import pytest
import torch

import cilmp.datasets  # noqa: F401  registers
from cilmp.clip.backbones import load_clip
from cilmp.errors import UserError
from cilmp.trainers.biomedcoop import BiomedCoOp
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.method import Task
from cilmp.trainers.zsclip import ZeroshotCLIP2
from dassl.utils import set_random_seed

NAMES = ["nodule", "cyst"]
SAID = {"nodule": ["a bright disc.", "a round spot."], "cyst": ["a dark disc.", "a ring with a rim."]}


def trainer(kind, root, path, **options):
    cfg = default_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE, cfg.DATASET.NAME = "tiny", (64, 64), "PHANTOMS"
    cfg.DATASET.ROOT, cfg.DATALOADER.NUM_WORKERS, cfg.USE_CUDA, cfg.OUTPUT_DIR = str(root), 0, False, str(path.parent)
    cfg.TRAINER[kind.__name__.upper()].update(dict(SENTENCES=str(path), N_PROMPTS=2, PREC="fp32") | options)
    set_random_seed(1)
    return kind(cfg, NAMES)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "said.json").write_text(json.dumps(SAID))
    return tmp_path / "said.json"


def test_sentences_reach_the_teacher_and_the_record(data, path):
    made = trainer(BiomedCoOp, data, path)
    clip = load_clip("tiny")
    assert made.model.teacher.shape == (2, 2, clip.embed)
    torch.testing.assert_close(made.model.teacher[1, 0], clip.encode_text(clip.tokenize(["a dark disc."]))[0])
    assert made.knowledge["source"] == "said.json"
    assert BiomedCoOp.made_from(made.cfg) == {"knowledge": made.knowledge["sha256"]}


def test_a_test_needs_no_sentences_and_training_does(data, path):
    image = torch.randn(3, 3, 64, 64)
    expected = trainer(BiomedCoOp, data, path).model.eval().infer(image)
    path.unlink()
    bare = trainer(BiomedCoOp, data, path)
    assert torch.equal(bare.model.eval().infer(image), expected)
    with pytest.raises(UserError, match="No class sentences at .*said.json"):
        bare.before_train()


def test_an_ensemble_of_sentences(data, path):
    model = trainer(ZeroshotCLIP2, data, path).model
    clip = load_clip("tiny")
    each = [torch.nn.functional.normalize(clip.encode_text(clip.tokenize(SAID[name])), dim=-1) for name in NAMES]
    torch.testing.assert_close(model.fixed[0], torch.stack([x.mean(0) for x in each]))
    templates = trainer(ZeroshotCLIP2, data, path, N_PROMPTS=0).model
    assert not torch.allclose(templates.fixed, model.fixed)
    path.unlink()
    with pytest.raises(UserError, match="No class sentences"):
        trainer(ZeroshotCLIP2, data, path)


def test_prompts_of_equal_sentences_are_not_divided_by_zero():
    task = Task(NAMES, sentences=[["a disc.", "a disc."]] * 2)
    method = BiomedCoOp.build(load_clip("tiny"), task, N_PROMPTS=2)
    losses, _ = method.losses(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))
    assert all(loss.isfinite() for loss in losses.values())
