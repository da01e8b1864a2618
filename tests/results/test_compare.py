"""Which runs and images make a pair."""

import json
import shutil

import numpy as np
import pytest
from golden import folder
from scipy import stats

from cilmp.results import records, runs, significance
from cilmp.results.compare import compare
from cilmp.results.predictions import NAME, Predictions


def place(tmp_path, trainer, seed=1, **fields):
    """A golden run, its record changed."""
    target = tmp_path / f"{trainer}{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder(trainer, "BUSI", "all", 1, seed), target)
    record = json.loads((target / records.NAME).read_text())
    records.write(target / records.NAME, record | fields)
    return target


def moved(target, root, **change):
    """The run as it would be with its data in another folder, and other arrays."""
    file = dict(np.load(target / NAME)) | change
    np.savez(target / NAME, **(file | dict(path=np.array([f"{root}/{p}" for p in file["path"]]))))
    record = json.loads((target / records.NAME).read_text())
    records.write(target / records.NAME, record | dict(options=record["options"] | {"DATASET.ROOT": root}))


def tables(tmp_path):
    return compare(runs.collect(tmp_path)[0], "CILMP", "accuracy")


def test_runs_of_two_roots_are_paired_by_place_and_the_numbers_stay(tmp_path):
    targets = [place(tmp_path, name, seed) for name in ("CILMP", "CoOp") for seed in (1, 2)]
    before = [table.rows for table in tables(tmp_path)]
    for i, target in enumerate(targets):
        moved(target, f"/scratch{i}/data")
    after = tables(tmp_path)
    assert [table.rows for table in after] == before and after[1].rows[0][1][:2] == [30, 2]


def test_runs_that_share_no_image_are_told_with_their_roots(tmp_path):
    for name in ("CILMP", "CoOp"):
        moved(place(tmp_path, name), f"/of/{name}")
    target = tmp_path / "CoOp1"
    paths = np.array([f"elsewhere/{i}.png" for i in range(30)])
    np.savez(target / NAME, **(dict(np.load(target / NAME)) | dict(path=paths)))
    table = tables(tmp_path)[1]
    assert not table.rows
    assert "/of/CILMP" in table.notes[0] and "/of/CoOp" in table.notes[0] and "share no image path" in table.notes[0]
    assert not any("SAVE_PREDICTIONS" in note for note in table.notes)


@pytest.mark.parametrize("change, said", [
    (lambda file: dict(label=(file["label"] + 1) % 3), "different classes"),
    (lambda file: dict(classnames=np.array(["normal", "benign_lesion", "other"])), "other classes"),
])  # fmt: skip
def test_runs_that_name_images_otherwise_are_not_paired(tmp_path, change, said):
    place(tmp_path, "CILMP")
    target = place(tmp_path, "CoOp")
    file = dict(np.load(target / NAME))
    np.savez(target / NAME, **(file | change(file)))
    table = tables(tmp_path)[1]
    assert not table.rows and said in table.notes[0]


def test_classes_in_another_order_are_paired_by_name(tmp_path):
    place(tmp_path, "CILMP")
    target = place(tmp_path, "CoOp")
    before = tables(tmp_path)[1].rows
    told = Predictions.read(target)
    turned = Predictions(told.logits[:, ::-1], 2 - told.labels, told.paths[::-1], told.classnames[::-1])
    Predictions(turned.logits[::-1], turned.labels[::-1], turned.paths, turned.classnames).write(target)
    assert tables(tmp_path)[1].rows == before


def test_missing_predictions_are_named(tmp_path):
    place(tmp_path, "CILMP")
    (place(tmp_path, "CoOp") / NAME).unlink()
    assert "CoOp1: run with TEST.SAVE_PREDICTIONS" in tables(tmp_path)[1].notes[0]


@pytest.mark.parametrize("field, value", [("split", "val"), ("source", "KVASIR"), ("classes", "base"), ("shots", 4)])
def test_a_pair_agrees_in_all_but_the_trainer(tmp_path, field, value):
    """A run tested on validation images, or with prompts trained on another data set, is no twin of one at home."""
    for name in ("CILMP", "CoOp"):
        place(tmp_path, name)
    ours, theirs = runs.collect(tmp_path)[0]
    over, per_image = compare([ours, theirs], "CILMP", "accuracy")
    assert over.rows[0][1][0] == 1 and len(per_image.rows) == 1 and "split" not in per_image.labels
    theirs[field] = value
    over, per_image = compare([ours, theirs], "CILMP", "accuracy")
    assert over.rows[0][1][0] == 0 and not per_image.rows
    both = [ours, theirs, ours | {field: value}, theirs | {field: ours[field]}]
    _, per_image = compare(both, "CILMP", "accuracy")
    assert len(per_image.rows) == 2 and field in per_image.labels


@pytest.mark.parametrize("gap", [0.0, 20.0])
def test_differences_that_do_not_vary_have_no_interval_and_no_p(tmp_path, gap):
    """Two deterministic trainers, copied over seeds, with rounding in the last digit; CoOp's do vary."""
    for seed, noise in ((1, 0.0), (2, 1e-14), (3, 0.0)):
        for trainer, accuracy in (("CILMP", 60.1), ("ZeroshotCLIP", 60.1 - gap + noise), ("CoOp", 50.0 + seed)):
            record = dict(version=1, trainer=trainer, dataset="BUSI", classes="all", shots=16, seed=seed)
            records.write(tmp_path / trainer / str(seed) / records.NAME, record | dict(metrics=dict(accuracy=accuracy)))
    over = tables(tmp_path)[0]
    rows = dict(over.rows)
    n, mean, *others = rows["ZeroshotCLIP",]
    assert n == 3 and mean == pytest.approx(gap) and np.isnan(others).all()
    assert over.notes[1:] == ["the differences do not vary over seeds, so nothing can be tested: ZeroshotCLIP"]
    test = stats.ttest_1samp([9.1, 8.1, 7.1], 0)  # alone in its column: Holm has nothing to correct
    interval = test.confidence_interval()
    assert rows["CoOp",][2:] == pytest.approx([interval.low, interval.high, test.pvalue, 0.25])


def test_bootstraps_together_are_those_alone():
    rng = np.random.default_rng(0)
    rows = [rng.choice([-100.0, 0.0, 100 / 3], n) for n in (40, 70, 40)]
    together = significance.resampled(rows)
    assert together == [tuple(significance.bootstrap(row[None])[0].tolist()) for row in rows]
