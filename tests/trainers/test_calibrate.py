"""cilmp calibrate and predict --calibrated --sets on finished runs of the embedded data set."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finished import QUICK, trained

from cilmp import calibrate, predict, train
from cilmp.errors import UserError
from cilmp.restore import config
from cilmp.results import calibration, metrics, records
from cilmp.results.predictions import NAME, VALIDATION, Predictions
from dassl.data.datasets import build_dataset

HOME = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture(scope="module")
def coop(data, tmp_path_factory) -> Path:
    return trained(data, tmp_path_factory.mktemp("coop"))


@pytest.fixture
def run(coop, tmp_path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(coop, tmp_path / "run")


@pytest.fixture
def lone(data, tmp_path) -> Path:
    """A split file without validation images."""
    split = json.loads((data / "phantoms/phantoms.json").read_text())
    split["train"] += split.pop("val")
    (tmp_path / "lone.json").write_text(json.dumps(split))
    return tmp_path / "lone.json"


def called(capsys, *arguments) -> str:
    capsys.readouterr()
    calibrate.main(list(map(str, arguments)))
    return capsys.readouterr().out


def drawn(run: Path):
    return build_dataset(config(records.read(run)))


def test_the_temperature_is_that_of_the_run_s_validation_images(run, capsys):
    said = called(capsys, run)
    told, dataset = Predictions.read(run, name=VALIDATION), drawn(run)
    assert told.paths == [item.impath for item in dataset.val] and "val_" in told.paths[0] and len(told.paths) == 32
    assert told.labels.tolist() == [item.label for item in dataset.val]
    found, why = calibration.temperature(told.logits, told.labels)
    assert not why and "16 shots" not in said and "4 shots, seed 1: temperature from 32 validation images" in said
    assert f"after   {found:.3f}" in said
    test = Predictions.read(run)
    fell = calibration.nll(test.logits, test.labels) - calibration.nll(test.logits / found, test.labels)
    assert f"The temperature lowers the NLL of the test images by {fell:.4f}." in said and fell > 0
    assert said.count(" of 100") == 3 and "32 validation images  LAC" in said


def test_no_label_of_the_test_enters_the_fit(run, capsys):
    def fitted() -> tuple[str, np.ndarray]:
        last = next(line for line in called(capsys, run).splitlines() if line.startswith("after"))
        return last.split()[1], Predictions.read(run, name=VALIDATION).logits

    before, logits = fitted()
    test = Predictions.read(run)
    test.labels = np.random.default_rng(0).permutation(test.labels)
    test.write(run)
    after, same = fitted()
    assert before == after and np.array_equal(logits, same)


def test_held_back_shots_stand_in_and_it_is_said(data, lone, tmp_path, capsys):
    run = trained(data, tmp_path / "out", "DATASET.SPLIT_FILE", lone, "DATASET.HELD_BACK", 0.25)
    assert "temperature from 8 held-back training images" in (said := called(capsys, run))
    assert "No sets from 8 held-back training images: alpha 0.1 needs 9 images" in said
    dataset = drawn(run)
    assert not {i.impath for i in dataset.train_x} & set(Predictions.read(run, name=VALIDATION).paths)
    whole = trained(data, tmp_path / "whole", "DATASET.SPLIT_FILE", lone)
    with pytest.raises(UserError, match="has no validation images to calibrate on.*train with DATASET.HELD_BACK 0.25"):
        called(capsys, whole)
    # what a run was trained on cannot be called held back in a later test
    argv = ["train.py", "--root", data, "--seed", 1, "--trainer", "CoOp", "--output-dir", tmp_path / "test"]
    argv += ["--eval-only", "--model-dir", whole, "--dataset-config-file", "phantoms", "--config-file", "tiny", *QUICK]
    argv += ["DATASET.SPLIT_FILE", lone, "DATASET.HELD_BACK", 0.25]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="HELD_BACK default there, 0.25 asked"):
        patch.setattr(sys, "argv", list(map(str, argv)))
        patch.setattr(sys, "stdout", sys.stdout)
        train.guarded()


def test_a_run_that_chose_on_its_validation_images_says_so(data, tmp_path, capsys):
    said = called(capsys, trained(data, tmp_path, trainer="TipAdapter"), "--format", "md")
    assert "may have chosen on these images too" in said and "|" in said


def spoilt_record(run: Path, **fields) -> None:
    record = records.read(run)
    record["made_from"] |= fields.pop("made_from", {})
    records.write(run / records.NAME, record | fields)


def another_checkpoint(run: Path) -> None:
    path = run / "prompt_learner" / "model.pth.tar-1"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"] = {name: value.flip(-1) for name, value in saved["state_dict"].items()}
    torch.save(saved, path)


SLIPS = {  # what is wrong: (what spoils the run, arguments, what the line says)
    "not finished": (lambda run: (run / "result.json").unlink(), [], "the run has not finished; start it again"),
    "no predictions": (lambda run: (run / NAME).unlink(), [], "No predictions.npz in .*TEST.SAVE_PREDICTIONS True"),
    "tested on val": (lambda run: spoilt_record(run, split="val"), [], "was tested on its validation images"),
    "alpha": (lambda run: None, ["--alpha", "0"], "alpha is 0: give a number between 0 and 1"),
    "images": (
        lambda run: None,
        ["--alpha", "0.001"],
        "alpha 0.001 needs 999 images .* half of the 400 test images are 200.*alpha 0.005",
    ),
    "split": (lambda run: spoilt_record(run, made_from={"split": "0"}), [], "another split there than now"),
    "weights": (another_checkpoint, [], "does not answer as in its test"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_line_and_calibrates_nothing(run, slip, capsys):
    spoil, arguments, said = SLIPS[slip]
    spoil(run)
    with pytest.raises(UserError, match=said):
        called(capsys, run, *arguments)
    assert not (run / VALIDATION).exists()


def test_a_temperature_that_does_not_help_is_said():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    sure = 3 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    paths, names = [f"{i}" for i in range(60)], ["a", "b", "c"]
    told, test = Predictions(sure, labels, paths, names), Predictions(-sure, labels, paths, names)
    found, _ = calibration.temperature(sure, labels)
    rise = calibration.nll(-sure / found, labels) - calibration.nll(-sure, labels)
    assert rise > 0
    said = calibrate.temperature("X", "60 images", told, test, []).render()
    assert f"does NOT lower the NLL of the test images: it rises by {rise:.4f}" in said
    right = Predictions(9 * np.eye(3)[labels], labels, paths, names)
    assert "No temperature: all 60 images are right" in calibrate.temperature("X", "", right, test, []).render()


def test_predict_answers_with_sets_and_calibrated_probabilities(run, capsys, tmp_path):
    called(capsys, run)
    told, test, out = Predictions.read(run, name=VALIDATION), Predictions.read(run), tmp_path / "p.json"
    images = test.paths[::40]
    assert predict.main(["--model-dir", str(run), *images, "--sets", "0.1", "--calibrated", "--out", str(out)]) == 0
    true = np.sort(1 - told.probabilities[np.arange(32), told.labels])
    q = true[29]  # the ceil(33 x 0.9) = 30th of 32
    found, _ = calibration.temperature(told.logits, told.labels)
    for i, row in enumerate(json.loads(out.read_text())):
        p, scaled = test.probabilities[40 * i], metrics.softmax(test.logits[40 * i][None] / found)[0]
        assert set(row["set"]) == {name for name, x in zip(test.classnames, p, strict=True) if 1 - x <= q}
        assert row["set"] == sorted(row["set"], key=row["probabilities"].get, reverse=True)
        np.testing.assert_allclose(list(row["probabilities"].values()), scaled, atol=2e-5)
    predict.main(["--model-dir", str(run), images[0], "--sets", "0.3", "--out", str(tmp_path / "p.csv")])
    head, line = csv.reader((tmp_path / "p.csv").open())
    assert head[:3] == ["path", "prediction", "set"] and line[2].split("; ")[0] == line[1]


def test_sets_that_hold_every_class_are_told(run, capsys):
    called(capsys, run)
    told = Predictions.read(run, name=VALIDATION)
    replace(told, logits=-np.eye(8)[told.labels]).write(run, VALIDATION)  # the true class is the least likely
    predict.main(["--model-dir", str(run), Predictions.read(run).paths[0], "--sets", "0.1"])
    assert "on these images every set holds every class and tells nothing: give" in capsys.readouterr().err
    test = Predictions(np.array([[1.0, 0.0]] * 40), np.ones(40, int), ["x"] * 40, ["a", "b"])
    said = "\n".join(table.render() for table in calibrate.sets("40 images", test, test, 0.1))
    assert "40 images LAC: every set holds every class" in said and "test halves LAC: every set" in said


def test_a_sure_run_s_sets_do_not_hold_every_class(run, capsys):
    """Logits so far apart that 1 - p is 1 for every class but one."""
    called(capsys, run)
    told, test = Predictions.read(run, name=VALIDATION), Predictions.read(run)
    threshold = predict.threshold_of(replace(told, logits=300 * told.logits), 0.1)
    sizes = [predict.answer("", 300 * row, threshold=threshold).set.sum() for row in test.logits]
    assert 1 <= np.mean(sizes) < 7.9 and "every class" not in capsys.readouterr().err


def test_predict_refuses_sets_it_cannot_vouch_for(run, capsys):
    image = Predictions.read(run).paths[0]
    asked = ["--model-dir", str(run), image]
    with pytest.raises(UserError, match=f"No validation.npz in {run}, .*: cilmp calibrate {run}"):
        predict.main([*asked, "--sets", "0.1"])
    called(capsys, run)
    for arguments, said in [
        (["--sets", "1"], "alpha is 1: give"),
        (["--sets", "0.01"], "alpha 0.01 needs 99 images .* there are 32: every set would hold every class"),
        (["--calibrated", "--load-epoch", "1"], "leave --load-epoch out"),
    ]:
        with pytest.raises(UserError, match=said):
            predict.main([*asked, *arguments])
    told = Predictions.read(run, name=VALIDATION)
    for other in (replace(told, classnames=told.classnames[::-1]), replace(told, made_by="an older checkpoint")):
        other.write(run, VALIDATION)
        with pytest.raises(UserError, match=f"is of another model: cilmp calibrate {run}"):
            predict.main([*asked, "--sets", "0.1"])
    replace(told, logits=9 * np.eye(8)[told.labels]).write(run, VALIDATION)
    with pytest.raises(UserError, match="set no temperature .all 32 images are right"):
        predict.main([*asked, "--calibrated"])
    with (run / VALIDATION).open("wb") as file:
        np.savez(file, path=np.array([None]))
    objects = (run / VALIDATION).read_bytes()
    for content in (b"no archive", objects):
        (run / VALIDATION).write_bytes(content)
        with pytest.raises(UserError, match="validation.npz is damaged .*: delete it and calibrate") as refused:
            predict.main([*asked, "--sets", "0.1"])
        assert "pickle" not in str(refused.value)


def test_training_again_forgets_what_the_last_run_said(data, run):
    (run / VALIDATION).write_bytes(b"of the last run")
    trained(data, run, "TEST.NO_TEST", True)
    assert not any((run / name).exists() for name in (records.NAME, NAME, VALIDATION))
