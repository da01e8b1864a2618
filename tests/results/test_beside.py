"""Published figures beside ours: the file that ships, which cells match, what is marked, and files of no use."""

import csv
import math
from collections import Counter

import numpy as np
import pytest

import cilmp.datasets  # noqa: F401  registers the data sets
import cilmp.trainers  # noqa: F401
from cilmp.errors import exit_on_user_error
from cilmp.results import __main__ as program
from cilmp.results import published, records
from cilmp.results.beside import beside
from cilmp.results.runs import prepare
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY

FOREIGN = {"AdaLoRA", "CLIP-SVD", "DCPL", "Evi-Steer", "ProKeR", "XCoOp"}  # methods that are not the toolbox's
SHIPPED = published.read(published.shipped())
ROW = dict(paper="P", source="table 1", method="CoOp", backbone="ViT-B/16", dataset="BUSI", protocol="few_shot",
           shots="16", classes="all", metric="accuracy", value="80.0", deviation="1.0", seeds="3")  # fmt: skip


def written(path, *changes, columns=tuple(ROW)):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROW | change for change in changes)
    return path


def run(accuracy, seed=1, trainer="CoOp", dataset="BUSI", classes="all", shots=16, backbone="ViT-B/16", **fields):
    record = dict(version=records.VERSION, trainer=trainer, dataset=dataset, classes=classes, shots=shots, seed=seed)
    record |= dict(backbone=backbone, split="test", metrics=dict(accuracy=accuracy), model_dir="")
    return record | fields


def found(runs, tmp_path):
    for i, record in enumerate(runs):
        record["path"] = tmp_path / "a" / "b" / "c" / str(i)
    return prepare(runs)


def test_what_ships_is_sane():
    assert len(SHIPPED) == 352
    keys = Counter((f.paper, f.method, f.datasets, f.protocol, f.shots, f.classes, f.metric) for f in SHIPPED)
    assert max(keys.values()) == 1
    for f in SHIPPED:
        assert 0 < f.value < 100 and f.rounding == pytest.approx(0.005) and f.seeds == 3
        assert f.method in FOREIGN or f.method in TRAINER_REGISTRY.registered_names()
        assert f.datasets[0].startswith("average of") or set(f.datasets) <= set(DATASET_REGISTRY.registered_names())
        assert f.protocol in ("few_shot", "full", "base2new", "domain_generalisation")
        assert (f.shots is None) == (f.method == "ZeroshotCLIP") and (f.shots == -1) == (f.protocol == "full")


def test_h_is_the_harmonic_mean_of_the_means_and_another_is_called_otherwise():
    halves = {(f.paper, f.method, f.datasets, f.protocol, f.classes): f.value for f in SHIPPED}
    for f in SHIPPED:
        if f.classes.startswith("H"):
            names = ("source", "target") if f.protocol == "domain_generalisation" else ("base", "new")
            a, b = (halves[f.paper, f.method, f.datasets, f.protocol, name] for name in names)
            assert (f.classes == "H") == (abs(f.value - 2 * a * b / (a + b)) < 0.02), f


@pytest.mark.parametrize(
    "ours, theirs, beyond",
    [
        ([80, 81, 82], dict(value="83.1", deviation=""), "yes"),  # 2.1 > 2 x 1
        ([80, 81, 82], dict(value="83.0", deviation=""), "no"),
        ([80, 81, 82], dict(value="83.1", deviation="1"), "no"),  # 2.1 < 2 x 1.41
        ([80, 81, 82], dict(value="83.9", deviation="1"), "yes"),
        ([81], dict(value="83.1", deviation="1"), "yes"),
        ([81], dict(value="90", deviation=""), "-"),
        ([81.3, 81.3], dict(value="81", deviation=""), "no"),  # what rounding hides
        ([81.6, 81.6], dict(value="81", deviation=""), "yes"),
    ],
)
def test_a_difference_is_marked_beyond_two_deviations(tmp_path, ours, theirs, beyond):
    runs = found([run(a, seed) for seed, a in enumerate(ours)], tmp_path)
    [(labels, cells)] = beside(runs, written(tmp_path / "p.csv", theirs)).rows
    assert labels == ("P", "BUSI", "CoOp", "16", "all", "accuracy")
    mean, std, value, deviation, difference, marked, differs = cells
    assert (mean, value) == (pytest.approx(np.mean(ours)), float(theirs["value"]))
    assert difference == pytest.approx(np.mean(ours) - value)
    assert std == pytest.approx(np.std(ours, ddof=1)) if len(ours) > 1 else math.isnan(std)
    assert marked == beyond
    assert differs == ("" if len(ours) == 3 else f"seeds: {len(ours)}, theirs 3")


@pytest.mark.parametrize(
    "change, told",
    [
        (dict(method="MaPLe"), None),
        (dict(dataset="KVASIR"), None),
        (dict(backbone="biomedclip"), "1 that differ in backbone alone (biomedclip there, ViT-B/16 here)"),
        (dict(shots="4"), "1 that differ in shots alone (4 there, 16 here)"),
        (dict(protocol="cross_dataset"), "1 that differ in protocol alone (cross_dataset there, few_shot here)"),
        (dict(dataset="BUSI + KVASIR"), "1 that differ in data sets alone (BUSI, KVASIR there, BUSI here)"),
        (dict(classes="base"), None),
        (dict(shots="4", backbone="biomedclip"), None),
    ],
)
def test_what_differs_is_not_compared_and_named_where_it_is_one_thing(tmp_path, change, told):
    table = beside(found([run(80.0)], tmp_path), written(tmp_path / "p.csv", change))
    assert table.rows == [] and list(table.notes) == ([f"not shown: {told}"] if told else [])


@pytest.mark.parametrize("fields", [dict(split="val"), dict(source="KVASIR")])
def test_runs_of_another_split_or_source_are_not_compared(tmp_path, fields):
    runs = [record | fields for record in found([run(80.0)], tmp_path)]
    assert beside(runs, written(tmp_path / "p.csv", {})).rows == []


def test_a_mean_over_data_sets_and_h_are_ours_of_the_same(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.uniform(50, 90, (2, 2, 3))  # (data set, half, seed)
    runs = [run(scores[i, j, seed], seed, dataset=data, classes=half)
            for i, data in enumerate(("BUSI", "KVASIR")) for j, half in enumerate(("base", "new"))
            for seed in range(3)]  # fmt: skip
    both = dict(dataset="BUSI + KVASIR", protocol="base2new")
    path = written(tmp_path / "p.csv", both | dict(classes="new"), both | dict(classes="H"))
    [(_, new), (_, h)] = beside(found(runs, tmp_path), path).rows
    means = scores.mean(0)  # (half, seed)
    assert new[:2] == pytest.approx([means[1].mean(), means[1].std(ddof=1)])
    base, rest = means.mean(1)
    assert h[0] == pytest.approx(2 * base * rest / (base + rest))


ZERO_SHOT = dict(kind="zero-shot", year=2021)


def test_a_method_that_trains_on_nothing_matches_any_shots_once(tmp_path):
    runs = [run(42.0, seed, "ZeroshotCLIP", shots=shots, method=ZERO_SHOT) for seed in (1, 2) for shots in (1, 16, -1)]
    path = written(tmp_path / "p.csv", dict(method="ZeroshotCLIP", shots="", value="42.0"))
    [(labels, cells)] = beside(found(runs, tmp_path), path).rows
    assert labels[3] == "-" and cells[0] == 42.0


def test_each_variant_of_a_method_that_trains_on_nothing_is_a_row(tmp_path):
    runs = [run(40.0 + n, 1, "ZeroshotCLIP", shots=shots, method=ZERO_SHOT, options={"TRAINER.ZEROSHOT.N": n})
            for n in (1, 2) for shots in (1, 16)]  # fmt: skip
    rows = beside(found(runs, tmp_path), written(tmp_path / "p.csv", dict(method="ZeroshotCLIP", shots=""))).rows
    assert {labels[2]: cells[0] for labels, cells in rows} == {"ZeroshotCLIP [n 1]": 41.0, "ZeroshotCLIP [n 2]": 42.0}


@pytest.mark.parametrize("method", [dict(kind="prompt"), dict(kind="training-free"), {}])
def test_empty_shots_do_not_match_what_uses_training_images(tmp_path, method):
    """Tip-Adapter and GDA train no weight, but need images; a record that does not tell its kind may be of any."""
    runs = found([run(80.0, shots=shots, method=method) for shots in (4, 16)], tmp_path)
    table = beside(runs, written(tmp_path / "p.csv", dict(shots="")))
    assert table.rows == [] and table.notes == ["not shown: 1 that differ in shots alone (none there, 4 here)"]


@pytest.mark.parametrize(
    "change, told",
    [
        (dict(method="coop"), "method coop (CoOp here)"),
        (dict(method="Co Op", classes="All"), "method Co Op (CoOp here), classes All (all here)"),
        (dict(dataset="busi"), "dataset busi (BUSI here)"),
        (dict(classes="h"), "classes h (H here)"),
        (dict(dataset="BUSI+Btmri"), "dataset BUSI+Btmri (BUSI + BTMRI here)"),
        (dict(dataset="KVASIR"), None),  # another set than Kvasir
        (dict(dataset="average of A+B"), None),
        (dict(method="XCoOp"), None),
    ],
)
def test_a_name_that_is_ours_but_for_case_or_blanks_is_told(tmp_path, change, told):
    runs = found([run(80.0, dataset=data) for data in ("BUSI", "BTMRI", "Kvasir")], tmp_path)
    table = beside(runs, written(tmp_path / "p.csv", change, change))
    assert table.rows == []
    assert list(table.notes) == ([f"not matched, for letter case and blanks count: {told}"] if told else [])


def test_what_ships_has_no_slip(tmp_path):
    runs = [run(80.0, dataset=name) for name in DATASET_REGISTRY.registered_names() if name != "DERMAMNIST"]
    assert not any("letter case" in note for note in beside(found(runs, tmp_path), published.shipped()).notes)


def test_each_variant_of_a_trainer_is_a_row(tmp_path):
    runs = [run(80.0 + rank, options={"TRAINER.COOP.N_CTX": rank}) for rank in (2, 4)]
    rows = beside(found(runs, tmp_path), written(tmp_path / "p.csv", {})).rows
    assert {labels[2]: cells[0] for labels, cells in rows} == {"CoOp [n_ctx 2]": 82.0, "CoOp [n_ctx 4]": 84.0}


def test_a_metric_that_does_not_exist_for_our_runs_makes_no_row(tmp_path):
    runs = found([run(80.0) | dict(metrics=dict(accuracy=80.0, auroc=None))], tmp_path)
    [(labels, _)] = beside(runs, written(tmp_path / "p.csv", {}, dict(metric="auroc"))).rows
    assert labels[-1] == "accuracy"


def test_metrics_that_runs_do_not_have(tmp_path):
    runs = found([run(80.0)], tmp_path)
    path = written(tmp_path / "p.csv", {}, dict(metric="top5"))
    assert beside(runs, path).notes[-1] == "not compared: figures in top5, which these runs do not have"
    table = beside(runs, path, "kappa")
    assert not table.rows and table.notes == [f"{path} holds no figure in kappa. Known: accuracy, top5."]


def test_a_file_in_other_metrics_leaves_the_tables_and_one_note(tmp_path, capsys):
    records.write(tmp_path / "out" / "seed1" / records.NAME, run(80.0))
    path = written(tmp_path / "p.csv", dict(metric="top5"))
    program.main([str(tmp_path / "out"), "--table", "few_shot", "--beside", str(path)])
    shown = capsys.readouterr()
    assert "BUSI: accuracy by shots" in shown.out and "Beside" not in shown.out
    why = "no published figure is of the same cells as these runs; not compared: figures in top5"
    assert shown.err == f"note: {why}, which these runs do not have\n"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "lacks the columns paper, source"),
        (b"paper,method\n", "lacks the columns source, backbone"),
        (dict(value="8O.0"), "line 2: value is '8O.0', not a number"),
        (dict(value="nan"), "line 2: value is 'nan', not a number"),
        (dict(value=""), "line 2: value is empty"),
        (dict(metric=" "), "line 2: metric is empty"),
        (dict(dataset="BUSI+BUSI"), "line 2: dataset names a set twice"),
        (dict(dataset="BUSI + BUSI"), "line 2: dataset names a set twice, 'BUSI + BUSI', which is no mean over 2"),
        (dict(value="0.802"), "no accuracy exceeds 1, as fractions do not: write percent, 80.2 for 0.802"),
        (dict(deviation="-1"), "line 2: deviation is '-1', not a number from 0 on"),
        (dict(shots="all"), "line 2: shots is 'all', not a whole number from 1 on, or -1 for all"),
        (dict(shots="0"), "line 2: shots is '0'"),
        (dict(seeds="2.5"), "line 2: seeds is '2.5', not a whole number from 1 on"),
        (",".join(ROW).encode() + b"\nP,t,CoOp\n", "line 2: not as many fields as in the first line"),
        (",".join(ROW).encode() + b"\n", "holds no figure below its first line"),
        (",".join(ROW).encode() + b'\n"P', "unexpected end of data"),
        (b"\xff\xfe", "give a CSV in UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_of_no_use_is_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "p.csv"
    if isinstance(content, dict):
        written(path, content)
    elif content is not None:
        path.write_bytes(content)
    records.write(tmp_path / "out" / "seed1" / records.NAME, run(80.0))
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(lambda: program.main([str(tmp_path / "out"), "--beside", str(path)]))
    told = capsys.readouterr().err
    assert stop.value.code == 2 and len(told.splitlines()) == 1 and said in told and str(path) in told


@pytest.mark.parametrize("fields", [dict(metric="kappa", value="0"), dict(metric="ece", value="0.8")])
def test_what_may_be_below_one_percent_is_read(tmp_path, fields):
    assert published.read(written(tmp_path / "p.csv", fields))[0].value == float(fields["value"])


def test_the_program_shows_it_below_its_table(tmp_path, capsys):
    for seed in (1, 2, 3):
        record = run(85 + seed / 10, seed, "CILMP", "APTOS", shots=-1)
        records.write(tmp_path / str(seed) / records.NAME, record)
    program.main([str(tmp_path), "--table", "metrics", "--beside", "--metric", "accuracy"])
    told = capsys.readouterr().out
    assert told.index("Four metrics") < told.index("Beside published figures")
    words = told[told.index("APTOS   CILMP") :].split("\n")[0].split()
    assert words[2:] == ["all", "all", "accuracy", "85.20", "0.10", "85.43", "0.40", "-0.23", "no"]


def test_runs_without_a_published_figure_say_so(tmp_path, capsys):
    records.write(tmp_path / "1" / records.NAME, run(80.0, dataset="PHANTOMS"))
    program.main([str(tmp_path), "--beside"])
    shown = capsys.readouterr()
    assert "Beside" not in shown.out and "no published figure is of the same cells as these runs" in shown.err
