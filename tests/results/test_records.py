"""Records and predictions of wrong content: named with what is wrong in them, and the other runs go on."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden import folder

from cilmp.errors import UserError
from cilmp.results import __main__ as program
from cilmp.results import records, runs
from cilmp.results.predictions import NAME, Predictions, mean
from cilmp.sweep.jobs import Job

DOCS = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.fixture
def two(tmp_path):
    """Two golden runs of one setting, CoOp's and CILMP's, -> the folder of both."""
    for trainer in ("CoOp", "CILMP"):
        shutil.copytree(folder(trainer, "BUSI", "base", 16, 1), tmp_path / "out" / trainer)
    return tmp_path / "out"


def change(place, **fields):
    path = place / records.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_guide_s_table_is_the_schema():
    rows = re.findall(r"^\| (\*\*)?`([\w.]+)`\*{0,2} \| (.*?) \| (.*?) ?\| (\d+) \|", DOCS.read_text(), re.M)
    told = {name: records.Field(type, unit, bool(bold), int(since)) for bold, name, type, unit, since in rows}
    assert told == records.FIELDS


WRONG = [
    ("version", [1]), ("version", "1"), ("version", True), ("trainer", 7), ("trainer", None), ("dataset", None),
    ("config", 3), ("backbone", ["ViT"]), ("classes", {}), ("split", 0), ("shots", [16]), ("shots", 16.5),
    ("seed", "1"), ("seed", None), ("per_class", []), ("per_class", {"benign": "80"}), ("metrics", [1]),
    ("metrics", {"accuracy": "50"}), ("metrics", {"accuracy": True}), ("metrics", {"accuracy": 10**400}),
    ("options", None), ("options", []), ("seconds", 12), ("seconds", {"total": "12"}), ("peak_memory_mb", "1 GB"),
    ("trainable_parameters", 1.5), ("gflops", 3), ("device", None), ("knowledge", "llama"), ("model_dir", 5),
    ("commit", None),
    ("versions", {"torch": 2.2}), ("finished", 2026), ("method", "prompt"), ("method", {"year": "2021"}),
    ("method", {"kind": ["prompt"]}),
]  # fmt: skip


@pytest.mark.parametrize("field, value", WRONG)
def test_a_field_of_wrong_type_is_named_and_the_other_runs_are_shown(two, capsys, field, value):
    change(two / "CoOp", **{field: value})
    program.main([str(two)])
    shown, said = capsys.readouterr()
    assert str(two / "CoOp" / records.NAME) in said and f"field {field}" in said and said.count("\n") == 1
    assert "CILMP" in shown and "CoOp" not in shown
    assert Job(two / "CoOp", [], {"trainer": "CoOp"}).state()[0] == "broken"  # a sweep does it again


@pytest.mark.parametrize("text", ['{"metrics": {"accuracy": NaN}}', "[1]", "null", "[" * 100_000, "\xff", ""])
def test_what_is_no_record_is_named(two, text):
    (two / "CoOp" / records.NAME).write_bytes(text.encode("latin-1"))
    found, [line] = runs.collect(two)
    assert [run["trainer"] for run in found] == ["CILMP"] and str(two / "CoOp") in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", [records.NAME, NAME])
def test_a_pipe_is_not_waited_for(two, name):
    (two / "CoOp" / name).unlink()
    os.mkfifo(two / "CoOp" / name)
    with pytest.raises(UserError, match="no file"):
        records.read(two / "CoOp")
        Predictions.read(two / "CoOp")


def test_unknown_fields_and_null_are_kept(two):
    change(two / "CoOp", of_tomorrow=[1], knowledge=None, peak_memory_mb=None, metrics={"auroc": None})
    assert records.read(two / "CoOp")["of_tomorrow"] == [1]


@pytest.mark.parametrize("arguments, said", [
    (["--metric", "trainer"], "is no number"),
    (["--metric", "versions"], "is no number"),
    (["--rows", "metrics"], "no 'metrics' to sort by"),
    (["--rows", "trainr"], "Did you mean trainer"),
    (["--columns", "options"], "no 'options' to sort by"),
])  # fmt: skip
def test_a_field_that_makes_no_table_is_refused(two, arguments, said):
    change(two / "CoOp", versions={"torch": "2.2"})
    change(two / "CILMP", versions={"torch": "2.2"})
    with pytest.raises(UserError, match=said):
        program.main([str(two), *arguments])


def arrays():
    good = dict(np.load(folder("CoOp", "BUSI", "base", 16, 1) / NAME))
    label, logits = good["label"], good["logits"]
    yield "3 labels", good | dict(label=label[:3])
    yield "labels from 99", good | dict(label=label + 99)
    yield "labels from -1", good | dict(label=label - 1)
    yield "label is float64", good | dict(label=label + 0.5)
    yield "1 class names", good | dict(classnames=good["classnames"][:1])
    yield "two classes have one name", good | dict(classnames=good["classnames"][[0, 0, 2]])
    yield "path is int64", good | dict(path=label)
    yield "29 paths", good | dict(path=good["path"][1:])
    yield "no finite numbers", good | dict(logits=np.where(logits > 1, np.nan, logits))
    yield "no finite numbers", good | dict(logits=np.where(logits > 1, np.inf, logits))
    yield "logits is <U", good | dict(logits=logits.astype(str))
    yield "logits is float64 of shape (90,)", good | dict(logits=logits.ravel())
    yield "0 images", {k: v[:0] if k != "classnames" else v for k, v in good.items()}
    yield "other things than arrays of numbers and text", good | dict(path=good["path"].astype(object))
    yield "no array logits", {k: v for k, v in good.items() if k != "logits"}
    yield "", b""
    yield "zip", (folder("CoOp", "BUSI", "base", 16, 1) / NAME).read_bytes()[:900]
    yield "", b"\x93NUMPY" + bytes(50)


@pytest.mark.parametrize("said, content", list(arrays()))
def test_predictions_of_wrong_content_are_named_and_the_others_compared(two, capsys, said, content):
    shutil.copytree(folder("ZeroshotCLIP", "BUSI", "base", 16, 1), two / "ZeroshotCLIP")
    path = two / "CoOp" / NAME
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        Predictions.read(two / "CoOp")
    assert said in str(error.value)
    program.main([str(two), "--compare", "CILMP", "--where", "classes=base"])
    per_image = capsys.readouterr().out.split("paired over test images")[1]
    assert f"{path} is damaged" in per_image and re.search(r"ZeroshotCLIP +30 ", per_image)


def some(places, labels, names=("a", "b"), root="", right=True):
    labels = np.array(labels)
    logits = np.eye(len(names))[labels if right else 1 - labels]
    return Predictions(logits, labels, list(places), list(names), root)


def test_images_are_known_by_their_place_below_the_data_folder():
    assert some(["/x/data/s/1.png", "/y/2.png"], [0, 0], root="/x/data/").places == ["s/1.png", "/y/2.png"]
    assert some([r"D:\data\s\1.png"], [0], root="D:\\data").places == ["s/1.png"]
    assert some(["~/1.png", "/database/1.png"], [0, 0], root="/data").places == ["~/1.png", "/database/1.png"]
    assert some(["1.png", "2.png", "1.png"], [0, 0, 1]).places == ["1.png", "2.png", "1.png (2)"]


def test_a_mean_over_seeds_never_mixes_classes():
    ours, theirs = some(["1", "2", "3"], [0, 1, 1]), some(["3", "1", "9"], [0, 1, 0], ("b", "a"))
    average, shared = mean([ours, theirs.like(ours)])
    assert shared.paths == ["1", "3"] and shared.labels.tolist() == [0, 1]
    assert average.argmax(1).tolist() == [0, 1]
    assert average.max() == pytest.approx(math.e / (math.e + 1))
    assert some(["1"], [0], ("a", "c")).like(ours) is None
    other_truth = some(["1", "2", "3"], [0, 0, 1])
    assert mean([ours, other_truth])[1].paths == ["1", "3"]
