"""Trained on one scanner, tested on another: prompts and heads alike keep the source's classes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
from test_train import HOME, QUICK, TRAINERS, run  # noqa: F401  a fixture

from cilmp.datasets import splits
from cilmp.datasets.phantoms import PHANTOMS_B
from cilmp.results import protocols
from cilmp.results import runs as finished

pytestmark = pytest.mark.slow  # whole runs
THERE = ["DATASET.CLASSES_OF", "PHANTOMS", "TEST.SAVE_PREDICTIONS", "True"]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_serves(run, data, trainer, tmp_path):  # noqa: F811
    opts = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.CSC", True] if trainer == "CoOp" else []
    assert run(trainer, tmp_path / "home", opts=opts)[0] == 0
    flags = ["--eval-only", "--model-dir", str(tmp_path / "home")]
    code, said = run(trainer, tmp_path / "there", *flags, opts=[*opts, *THERE], dataset="phantoms_b")
    assert code == 0, said
    home, there = (json.loads((tmp_path / d / "result.json").read_text()) for d in ("home", "there"))
    assert there["dataset"] == "PHANTOMS_B" and list(there["per_class"]) == list(home["per_class"])
    # against the split file and scikit-learn
    answers = np.load(tmp_path / "there" / "predictions.npz")
    truth = {item.path: item.label for item in splits.read(data / "phantoms_b/phantoms_b.json")["test"]}
    label = [truth["/".join(Path(path).parts[-2:])] for path in answers["path"]]
    assert all("phantoms_b" in path for path in answers["path"]) and len(label) == 400
    accuracy = 100 * sk.accuracy_score(label, answers["logits"].argmax(1))
    assert there["metrics"]["accuracy"] == pytest.approx(accuracy) and "accuracy_present" not in there["metrics"]


def test_a_source_whose_third_class_has_no_image_there(run, data, tmp_path):  # noqa: F811
    """A target of two findings, in its own words and order: its images, and no others, under the source's labels."""
    make_other(data, tmp_path / "split.json")
    assert run("CoOp", tmp_path / "home")[0] == 0
    opts = [*THERE, "DATASET.SPLIT_FILE", tmp_path / "split.json"]
    opts += ["DATASET.CLASS_MAP", "['broken bone = fracture', 'blister = cyst']"]
    flags = ["--eval-only", "--model-dir", str(tmp_path / "home")]
    code, said = run("CoOp", tmp_path / "there", *flags, opts=opts, dataset="phantoms_b")
    assert code == 0, said
    record = json.loads((tmp_path / "there" / "result.json").read_text())
    answers = np.load(tmp_path / "there" / "predictions.npz")
    names = list(answers["classnames"])
    assert names[0] == "nodule" and len(names) == 8 and len(answers["label"]) == 100
    own = ["cyst" if "/cyst/" in path else "fracture" for path in answers["path"]]
    assert [names[i] for i in answers["label"]] == own
    two = [names.index("cyst"), names.index("fracture")]
    present = sk.accuracy_score([two.index(i) for i in answers["label"]], answers["logits"][:, two].argmax(1))
    assert record["metrics"]["accuracy_present"] == pytest.approx(100 * present)
    assert record["metrics"]["accuracy"] < 100 * present
    assert [name for name, recall in record["per_class"].items() if recall is not None] == ["cyst", "fracture"]


def make_other(root: Path, path: Path) -> None:
    """Two findings and one that the source does not know, under other names and numbers."""
    names = {"fracture": (0, "broken bone"), "cyst": (1, "blister"), "cavity": (2, "hole")}
    split = splits.read(PHANTOMS_B.located(str(root)) / "phantoms_b.json")
    kept = {
        part: [item._replace(label=names[item.classname][0], classname=names[item.classname][1])
               for item in items if item.classname in names]
        for part, items in split.items()
    }  # fmt: skip
    splits.write(path, kept)


def test_prompts_of_another_source_are_refused(run, tmp_path):  # noqa: F811
    assert run("CoOp", tmp_path / "home", dataset="phantoms_b")[0] == 0
    flags = ["--eval-only", "--model-dir", str(tmp_path / "home")]
    code, said = run("CoOp", tmp_path / "there", *flags, opts=THERE, dataset="phantoms_b")
    assert code == 2 and "CLASSES_OF is PHANTOMS, and the prompts in" in said and "trained on PHANTOMS_B" in said
    assert run("CoOp", tmp_path / "half", opts=["DATASET.SUBSAMPLE_CLASSES", "base"])[0] == 0
    flags[-1] = str(tmp_path / "half")
    code, said = run("CoOp", tmp_path / "there", *flags, opts=THERE, dataset="phantoms_b")
    assert code == 2 and "is of the classes nodule, cyst" in said and not (tmp_path / "there/result.json").exists()


def test_from_one_command_to_the_table(tmp_path):
    """As a user types it, on the embedded sets."""
    words = [
        "bash",
        str(HOME / "scripts/domain_generalisation.sh"),
        "phantoms",
        "phantoms_b",
        "--",
        *QUICK[:2],
        *QUICK[4:],
    ]  # SHOTS
    more = dict(TRAINERS="CoOp LinearProbe", SEEDS="1 2", SHOTS="2", OUTPUT="out", DATA=".", JOBS="1")
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | more, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "PHANTOMS (source)" in done.stdout and "drop" in done.stdout
    [table] = protocols.domain_generalisation(finished.collect(tmp_path / "out")[0])
    assert table.render() in done.stdout and len(table.rows) == 2
    for _, (source, target, mean, drop) in table.rows:
        assert source.complete and target.mean == mean.mean
        assert drop.mean == pytest.approx(source.mean - target.mean)
