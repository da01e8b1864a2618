"""The table of domain generalisation: source, targets, their mean and the drop, against numpy."""

from pathlib import Path

import numpy as np
import pytest

from cilmp.errors import UserError
from cilmp.results import protocols, runs

SEEDS = (1, 2, 3)
SETS = ("BUSI", "BUID", "BUSBRA")  # the source, then targets


def record(trainer, dataset, seed, accuracy, present=None, classes_of="", shots=16, **more):
    setting = f"{trainer}/vit_b16_{shots}shots"
    home = f"out/busi/{setting}/seed{seed}"
    here = home if dataset == "BUSI" else f"out/{classes_of or 'own'}/{setting}/{dataset}/seed{seed}"
    fields = dict(version=1, trainer=trainer, dataset=dataset, classes="all", shots=shots, seed=seed, path=Path(here))
    metrics = {"accuracy": accuracy} | ({} if present is None else {"accuracy_present": present})
    options = {"DATASET.CLASSES_OF": classes_of} if classes_of else {}
    model_dir = "" if dataset == "BUSI" else home
    return fields | dict(config="vit_b16", metrics=metrics, options=options, model_dir=model_dir) | more


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    return {name: rng.uniform(40, 90, (len(SETS), len(SEEDS))) for name in ("CoOp", "LinearProbe")}


def found(numbers, present=None, skip=(), classes_of="BUSI", shots=16):
    return [
        record(name, data, seed, table[i, k], present if i else None, classes_of if i else "", shots)
        for name, table in numbers.items()
        for i, data in enumerate(SETS)
        for k, seed in enumerate(SEEDS)
        if (name, data, seed) not in skip
    ]


def test_means_and_drop(numbers):
    [table] = protocols.domain_generalisation(runs.prepare(found(numbers)))
    assert list(table.columns) == ["BUSI (source)", "BUID", "BUSBRA", "average of targets", "drop"]
    assert "trained on BUSI" in table.title
    for (name,), cells in table.rows:
        mean = numbers[name][1:].mean(0)
        for cell, values in zip(cells, [*numbers[name], mean, numbers[name][0] - mean], strict=True):
            assert cell.mean == pytest.approx(values.mean()) and cell.std == pytest.approx(values.std(ddof=1))
    said = table.render()
    assert "cilmp data check BUSI --root DATA --against BUID BUSBRA" in said
    drops = [line.split("  ")[-1].strip() for line in said.splitlines() if "±" in line and line[0] in "CL"]
    assert len(drops) == 2 and not any(mark in drop for drop in drops for mark in "*'")  # no contest


def test_less_is_better(numbers):
    some = [run | {"metrics": {"ece": run["metrics"]["accuracy"]}} for run in found(numbers)]
    [table] = protocols.domain_generalisation(runs.prepare(some), "ece")
    best = min(numbers, key=lambda name: numbers[name][0].mean())
    assert table.ranks()[[labels[0] for labels, _ in table.rows].index(best), 0] == 0


def test_a_seed_that_lacks_is_shown(numbers):
    [table] = protocols.domain_generalisation(runs.prepare(found(numbers, skip=[("CoOp", "BUID", 2)])))
    row = dict(table.rows)["CoOp",]
    assert sorted(row[-1].values) == [1, 3] and "(2 of 3 seeds)" in row[-1].text()


def test_classes_without_an_image_make_a_second_table(numbers):
    both = protocols.domain_generalisation(runs.prepare(found(numbers, present=95.0)))
    assert len(both) == 2 and "no answers" in both[1].title and "no answers" not in both[0].title
    assert "drop" in both[0].columns and "drop" not in both[1].columns
    row = dict(both[1].rows)["CoOp",]
    assert [cell.mean for cell in row[:4]] == pytest.approx([numbers["CoOp"][0].mean(), 95, 95, 95])
    assert dict(both[0].rows)["CoOp",][1].mean == pytest.approx(numbers["CoOp"][1].mean())


def test_both_protocols_of_one_source_stay_apart(numbers):
    """BUID in its own classes and in BUSI's: two tables, and no cell of both."""
    own = [record("CoOp", "BUID", seed, 10.0) for seed in SEEDS]
    everyone = runs.prepare(found(numbers) + own)
    assert {run["name"] for run in everyone} == {"CoOp", "LinearProbe"}
    [cross], [domains] = protocols.cross_dataset(everyone), protocols.domain_generalisation(everyone)
    assert list(cross.columns) == ["BUSI (source)", "BUID", "average of targets"]
    assert dict(cross.rows)["CoOp",][1].mean == 10
    assert dict(domains.rows)["CoOp",][1].mean == pytest.approx(numbers["CoOp"][1].mean())
    assert [table.title for table in protocols.tables_of(everyone, "accuracy")] == [cross.title, domains.title]
    with pytest.raises(UserError, match="classes_of"):
        runs.pivot([r for r in everyone if r["dataset"] == "BUID"], ["trainer"], "dataset", "accuracy")


def test_what_trains_nothing_needs_no_prompts_of_the_source(numbers):
    """A run that names no --model-dir says by its option whose classes it was tested in."""
    bare = [
        record("ZeroshotCLIP", data, 1, 50.0, None, "BUSI" if i else "", model_dir="") for i, data in enumerate(SETS)
    ]
    [table] = protocols.domain_generalisation(runs.prepare(bare))
    assert [cell.mean for cell in table.rows[0][1]] == [50, 50, 50, 50, 0]


def test_without_its_source_there_is_no_drop(numbers):
    """The targets alone, as --where dataset=BUID,BUSBRA chooses them."""
    alone = runs.where(runs.prepare(found(numbers)), ["dataset=BUID,BUSBRA"])
    [table] = protocols.domain_generalisation(alone)
    assert list(table.columns) == ["BUSI (source)", "BUID", "BUSBRA", "average of targets", "drop"]
    for (name,), cells in table.rows:
        assert cells[0].text() == cells[-1].text() == "missing"
        assert cells[3].mean == pytest.approx(numbers[name][1:].mean())
    assert table.notes[0].endswith("cilmp data check BUSI --root DATA --against BUID BUSBRA")
    [one] = protocols.domain_generalisation(runs.where(alone, ["dataset=BUID"]))
    assert one.notes[0].endswith("--against BUID") and one.rows[0][1][-1].text() == "missing"


@pytest.mark.parametrize("protocol, classes_of", [("domains", "BUSI"), ("cross", "")])
def test_every_number_of_shots_has_its_table(numbers, protocol, classes_of):
    few = {name: table / 2 for name, table in numbers.items()}
    both = runs.prepare(found(numbers, classes_of=classes_of) + found(few, classes_of=classes_of, shots=4))
    tables = protocols.TABLES[protocol](both, "accuracy")
    assert [table.title.split(", ")[-1] for table in tables] == ["4 shots", "16 shots"]
    for table, values in zip(tables, (few, numbers), strict=True):
        for (name,), cells in table.rows:
            assert [cell.mean for cell in cells[:3]] == pytest.approx(values[name].mean(1))
    assert len(protocols.tables_of(both, "accuracy")) == 3  # and the source's own by shots


def test_a_zero_shot_row_needs_no_source_and_what_was_trained_on_a_target_has_no_row(numbers):
    moved = found({"CoOp": numbers["CoOp"]}, classes_of="")
    still = [
        record(name, "BUID", 1, 30.0 + shots, shots=shots, model_dir="", method={"kind": kind})
        for name, kind in (("ZeroshotCLIP", "zero-shot"), ("MaPLe", "prompt"))
        for shots in (1, 16)
    ]
    [table] = protocols.cross_dataset(runs.prepare(moved + still))
    rows = dict(table.rows)
    assert rows.keys() == {("CoOp",), ("ZeroshotCLIP",)} and rows["ZeroshotCLIP",][1].mean == 46


def test_a_target_that_is_called_like_its_source_is_a_column_of_its_own():
    """People's own sets are all called FOLDER, and lie in different roots."""
    home = [record("CoOp", "BUSI", seed, 80.0) for seed in SEEDS]
    moved = [record("CoOp", "BUSI", seed, 50.0, None, "BUSI", path=Path(f"out/t/seed{seed}")) for seed in SEEDS]
    zero = record("ZeroshotCLIP", "BUSI", 1, 20.0)
    [table] = protocols.domain_generalisation(everyone := runs.prepare([*home, *moved, zero]))
    assert list(table.columns) == ["BUSI (source)", "BUSI (target)", "average of targets", "drop"]
    [(_, cells)] = table.rows
    assert [cell.mean for cell in cells] == [80, 50, 50, 30] and not table.notes
    [alone] = protocols.tables_of(runs.where(everyone, ["classes_of=BUSI"]), "accuracy")
    assert [cell.text() for cell in alone.rows[0][1]] == ["missing", "50.00 ± 0.00", "50.00 ± 0.00", "missing"]
