"""Runs that may not share a cell, runs that are another again, and what is refused of them."""

from pathlib import Path

import pytest

from cilmp.errors import UserError
from cilmp.results import __main__ as program
from cilmp.results import protocols, records, runs

FIRST, SECOND = {"benign": 50.0, "malignant": 70.0}, {"nevus": 50.0, "melanoma": 70.0}


def record(seed=1, accuracy=60.0, trainer="CoOp", dataset="FOLDER", shots=4, options=None, **more):
    fields = dict(version=1, trainer=trainer, dataset=dataset, classes="all", split="test", shots=shots, seed=seed)
    return fields | dict(config="tiny", metrics={"accuracy": accuracy}, options=options or {}, model_dir="") | more


def saved(place, found):
    for name, run in found.items():
        records.write(place / name / "result.json", run)
    return [str(place)]


def table(*found):
    made = runs.prepare([run | {"path": Path(f"run{i}")} for i, run in enumerate(found)])
    return runs.pivot(made, ["trainer"], "dataset", "accuracy")


@pytest.mark.parametrize(
    "here, there, said",
    [
        ({"per_class": FIRST}, {"per_class": SECOND}, "of different classes"),
        ({"made_from": {"split": "a1"}}, {"made_from": {"split": "b2"}}, "of different split files"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_two_data_sets_of_one_name_are_not_seeds_of_one_cell(here, there, said, seed):
    with pytest.raises(UserError, match=rf"different data, both called FOLDER, {said}.*\(run0, run1\)"):
        table(record(1, **here), record(seed, **there))


@pytest.mark.parametrize("older", [{}, {"per_class": {}, "made_from": {}}, {"made_from": {"split": ""}}])
def test_what_a_record_does_not_state_tells_nothing(older):
    stated = {"per_class": FIRST, "made_from": {"split": "a1", "start": "s1"}}
    other = {"per_class": dict(reversed(FIRST.items())), "made_from": {"split": "a1", "start": "s2"}}
    [(_, [cell])] = table(record(1, 50.0, **stated), record(2, 60.0, **older), record(3, 70.0, **other)).rows
    assert cell.mean == 60 and len(cell.values) == 3


def test_seeds_of_different_settings_are_not_averaged():
    with pytest.raises(UserError, match="differ in shots: choose with --where"):
        table(record(1, shots=4), record(2, shots=16))
    pair = [record(1, trainer=name) | {"path": Path(name)} for name in ("CoOp", "MaPLe")]
    with pytest.raises(UserError, match="differ in name: choose with --where"):  # not: delete one of them
        runs.pivot(runs.prepare(pair), ["dataset"], "shots", "accuracy")


def grid(place, again):
    """The points of OPTIM.LR=DEFAULT,0.1, and beside them the run without options."""
    slow, fast = record(accuracy=40.0), record(accuracy=80.0, options={"OPTIM.LR": 0.1})
    return saved(place, {"lr_0.0003/seed1": slow, "lr_0.1/seed1": fast, "plain/seed1": again})


def test_a_run_that_is_another_again_is_counted_once(tmp_path, capsys):
    program.main(grid(tmp_path, record(accuracy=40.0, options={"OUTPUT_DIR": "plain"})))
    shown = capsys.readouterr()
    [told] = shown.err.splitlines()
    assert told.startswith("note: not counted") and told.endswith(str(tmp_path / "plain/seed1"))
    rows = [line.split("  ") for line in shown.out.splitlines() if "CoOp" in line]
    numbers = [next(word.strip() for word in row if "0.00" in word) for row in rows]
    assert numbers == ["80.00 *", "40.00 '"] and "lr default" in shown.out


@pytest.mark.parametrize(
    "other", [{"accuracy": 41.0}, {"made_from": {"backbone": "b2"}}, {"per_class": FIRST}, {"accuracy": None}]
)
def test_the_same_run_with_other_numbers_or_files_is_refused(tmp_path, other):
    with pytest.raises(UserError, match="same run twice: delete one of them"):
        program.main(grid(tmp_path, record(**{"accuracy": 40.0} | other)))


def test_less_is_better_in_every_table():
    found = [
        record(1, 50.0, name, "BUSI", classes=half) | {"path": Path(f"{name}/{half}")}
        for name in ("CoOp", "MaPLe")
        for half in ("base", "new")
    ]
    for run in found:
        run["metrics"]["ece"] = 5.0 if run["trainer"] == "CoOp" else 9.0
    [made] = protocols.base2new(runs.prepare(found), "ece")
    assert made.ranks()[0, 0] == 0 and made.ranks()[1, 0] == 1
