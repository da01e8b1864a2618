"""A finished run handed on: cilmp.load."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cilmp
from cilmp import train
from cilmp.errors import UserError, exit_on_user_error
from cilmp.results.predictions import Predictions

QUICK = ["VERBOSE", "False", "OPTIM.MAX_EPOCH", "1", "TRAIN.CHECKPOINT_FREQ", "1", "DATALOADER.TEST.BATCH_SIZE", "400"]
QUICK += ["TEST.SAVE_PREDICTIONS", "True", "DATASET.FEATURE_CACHE_MB", "0", "DATASET.NUM_SHOTS", "2"]


def trained(data, out: Path, trainer: str, *options) -> Path:
    argv = ["train.py", "--root", data, "--seed", 1, "--trainer", trainer, "--output-dir", out]
    argv += ["--dataset-config-file", "phantoms", "--config-file", "tiny", *QUICK, *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", list(map(str, argv)))
        patch.setattr(sys, "stdout", sys.stdout)  # the run's logger takes its place
        exit_on_user_error(train.guarded)
    assert not stop.value.code
    return out


@pytest.fixture(scope="module")
def coop(data, tmp_path_factory) -> Path:
    return trained(data, tmp_path_factory.mktemp("coop"), "CoOp")


def answers(run: Path, images) -> np.ndarray:
    """(N, C)."""
    return np.array([list(answer.values()) for answer in cilmp.load(run, "cpu")(images)])


def test_a_loaded_run_answers_as_in_its_test(coop, capsys):
    saved, model = Predictions.read(coop), cilmp.load(coop, "cpu")
    paths, wanted = saved.paths[::80], saved.probabilities[::80]
    capsys.readouterr()
    told = model([paths[0], Path(paths[1]), *map(Image.open, paths[2:])])
    np.testing.assert_allclose([list(answer.values()) for answer in told], wanted, atol=2e-5)
    assert all(list(answer) == model.classnames == saved.classnames for answer in told)
    np.testing.assert_allclose(list(model(Image.open(paths[0])).values()), wanted[0], atol=2e-5)
    assert model([]) == [] and model(paths[0]).keys() == told[0].keys() and not capsys.readouterr().out


def test_an_image_in_memory_is_seen_as_its_file(coop, tmp_path):
    rng, model = np.random.default_rng(0), cilmp.load(coop, "cpu")
    clear = Image.fromarray(rng.integers(0, 255, (64, 64, 4), dtype=np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 60000, (64, 64), dtype=np.uint16))
    for name, image in (("clear.png", clear), ("deep.png", deep)):
        image.save(tmp_path / name)
        assert model(image) == model(tmp_path / name) != model(image.convert("RGB"))


def test_what_cannot_answer_is_one_line(coop, tmp_path):
    with pytest.raises(UserError, match="none.png .*No such file"):
        cilmp.load(coop, "cpu")([Predictions.read(coop).paths[0], "none.png"])
    with pytest.raises(UserError, match="No record at .*the run has not finished"):
        cilmp.load(tmp_path, "cpu")
    (tmp_path / "result.json").write_bytes((coop / "result.json").read_bytes())
    with pytest.raises(UserError, match="No checkpoint at .*holds no checkpoint of this trainer"):
        cilmp.load(tmp_path, "cpu")
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        cilmp.lod  # noqa: B018
