"""A record claims only what was trained: what a folder's checkpoints were made from is compared wherever they serve."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import cilmp.datasets
import cilmp.trainers  # noqa: F401  registered
from cilmp.errors import UserError
from cilmp.trainers.engine import provenance
from cilmp.trainers.engine.config import build_cfg


def cfg_of(root, output, *opts, trainer="CoOp", seed=1, resume=""):
    args = dict(trainer=trainer, dataset_config_file="", config_file="", root=str(root), output_dir=str(output))
    args |= dict(resume=resume, seed=seed, source_domains=None, target_domains=None, transforms=None, backbone="tiny")
    return build_cfg(SimpleNamespace(**args, head="", opts=["DATASET.NAME", "PHANTOMS", *map(str, opts)]))


@pytest.fixture
def place(tmp_path):
    """A data folder, and a run's folder with a checkpoint and its identity."""
    (tmp_path / "data" / "phantoms").mkdir(parents=True)
    (tmp_path / "data" / "phantoms" / "phantoms.json").write_text("{}")
    run = tmp_path / "run"
    provenance.claim(cfg_of(tmp_path / "data", run), [])
    (run / "prompt_learner").mkdir()
    (run / "prompt_learner" / "checkpoint").write_text("model.pth.tar-2\n")
    return tmp_path


DIFFERENT = {
    "seed": (dict(seed=2), "SEED 1 there, 2 asked"),
    "rate": (dict(opts=["OPTIM.LR", 0.5]), "OPTIM.LR default there, 0.5 asked"),
    "shots": (dict(opts=["DATASET.NUM_SHOTS", 4]), "NUM_SHOTS default there, 4 asked"),
    "epochs": (dict(opts=["OPTIM.MAX_EPOCH", 3]), "MAX_EPOCH"),
    "classes": (dict(opts=["DATASET.SUBSAMPLE_CLASSES", "new"]), "SUBSAMPLE_CLASSES default there, new asked"),
    "trainer": (dict(trainer="CoCoOp"), "trainer CoOp there, CoCoOp asked"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_checkpoints_of_another_run_are_refused(place, what):
    change, told = DIFFERENT[what]
    change = dict(change)
    with pytest.raises(UserError, match=told):
        provenance.claim(cfg_of(place / "data", place / "run", *change.pop("opts", ()), **change), [])


def test_what_changes_no_number_goes_on(place):
    shutil.copytree(place / "data", place / "elsewhere")
    opts = ["DATALOADER.NUM_WORKERS", 3, "TRAIN.CHECKPOINT_FREQ", 5, "TEST.SAVE_PREDICTIONS", True]
    provenance.claim(cfg_of(place / "elsewhere", place / "run", *opts), [])


def test_another_split_under_the_same_name_is_refused(place):
    (place / "data" / "phantoms" / "phantoms.json").write_text('{"train": []}')
    with pytest.raises(UserError, match="another split there than now"):
        provenance.claim(cfg_of(place / "data", place / "run"), [])


def test_a_folder_that_says_nothing_needs_a_word(place):
    (place / "run" / provenance.NAME).unlink()
    with pytest.raises(UserError, match="does not say what they were trained with.*--resume"):
        provenance.claim(cfg_of(place / "data", place / "run"), [])
    provenance.claim(cfg_of(place / "data", place / "run", resume=str(place / "run")), [])


def test_a_record_of_the_version_before_tells_as_well(place):
    cfg = cfg_of(place / "data", place / "run")
    (place / "run" / provenance.NAME).unlink()
    record = dict(version=1, trainer="CoOp", dataset="PHANTOMS", classes="all", shots=-1, seed=1, metrics={})
    record["options"] = provenance.identity(cfg)["options"]
    (place / "run" / "result.json").write_text(json.dumps(record))
    provenance.claim(cfg, [])
    (place / "run" / provenance.NAME).unlink()
    with pytest.raises(UserError, match="SEED 1 there, 3 asked"):
        provenance.claim(cfg_of(place / "data", place / "run", seed=3), [])


def test_a_resume_from_nowhere_is_refused(place):
    with pytest.raises(UserError, match="No checkpoint in .*nowhere.*--resume"):
        provenance.claim(cfg_of(place / "data", place / "new", resume=str(place / "nowhere")), [])


def test_a_finished_record_is_not_replaced_by_another_run_s(place):
    cfg = cfg_of(place / "data", place / "run")
    record = dict(version=1, trainer="CoOp", dataset="PHANTOMS", classes="all", shots=-1, seed=1, metrics={})
    (place / "run" / "result.json").write_text(json.dumps(record | provenance.identity(cfg)))
    provenance.spare_record(cfg)
    with pytest.raises(UserError, match="record of another run .*SUBSAMPLE_CLASSES default there, new asked"):
        provenance.spare_record(cfg_of(place / "data", place / "run", "DATASET.SUBSAMPLE_CLASSES", "new"))


def test_a_test_of_prompts_asks_for_what_they_were_trained_with(place):
    trained = place / "run"
    cfg = cfg_of(place / "data", place / "test", seed=None)
    provenance.require_trained(cfg, trained)
    assert cfg.SEED == 1, "unstated: that of the prompts"
    for opts, told in (
        (["TRAINER.COOP.CLASS_TOKEN_POSITION", "front"], "CLASS_TOKEN_POSITION default there, front asked"),
        (["DATASET.NUM_SHOTS", 4], "NUM_SHOTS default there, 4 asked"),
        (["MODEL.BACKBONE.NAME", "ViT-B/16"], "BACKBONE.NAME tiny there"),
    ):
        with pytest.raises(UserError, match=told):
            provenance.require_trained(cfg_of(place / "data", place / "test", *opts), trained)
    opts = ["DATASET.SUBSAMPLE_CLASSES", "new", "OPTIM.LR", 0.1, "TRAINER.COOP.PREC", "fp32"]
    provenance.require_trained(cfg_of(place / "data", place / "test", *opts), trained)


def test_augmentation_is_a_function_of_seed_epoch_and_image():
    from cilmp.trainers.engine.loading import drawing

    def drawn(*key):
        with drawing(*key):
            return torch.rand(3).tolist()

    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({tuple(drawn(*key)) for key in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)]}) == 4
    assert torch.equal(torch.random.get_rng_state(), before)
