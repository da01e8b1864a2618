"""Tables of the golden runs: to the letter, and their numbers against numpy and scipy."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from golden import EXPECTED, GONE, RUNS, folder, tables
from scipy import stats

from cilmp.errors import UserError
from cilmp.results import __main__ as program
from cilmp.results import protocols, records, runs, significance
from cilmp.results.compare import compare


def accuracies(trainer, data, classes, shots=16):
    return [json.loads((p / "result.json").read_text())["metrics"]["accuracy"]
            for seed in (1, 2, 3) if (p := folder(trainer, data, classes, shots, seed)).exists()]  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.name for path in EXPECTED.iterdir()))
def test_to_the_letter(name):
    """After a change that is meant: python tests/results/golden.py"""
    made = tables()
    assert made.keys() == {path.name for path in EXPECTED.iterdir()}
    assert steady(made[name]) == steady((EXPECTED / name).read_text(encoding="utf-8"))


def steady(text: str) -> str:
    """Numbers at full precision without their last digits: Python 3.10 and 3.11 round a deviation differently."""
    return re.sub(r"\d+\.\d{12,}", lambda number: f"{float(number[0]):.12g}", text)


def test_numbers():
    rows = {tuple(r[1:4]): r for r in csv.reader((EXPECTED / "base2new.csv").open()) if r}
    for trainer in ("CoOp", "CILMP"):
        base, new = accuracies(trainer, "KVASIR", "base"), accuracies(trainer, "KVASIR", "new")
        _, _, _, _, mean, std, n, _ = rows["KVASIR", trainer, "new"]
        assert float(mean) == pytest.approx(np.mean(new)) and float(std) == pytest.approx(np.std(new, ddof=1))
        h = rows["KVASIR", trainer, "H"]
        assert float(h[4]) == pytest.approx(stats.hmean([np.mean(base), np.mean(new)]))
        assert float(h[5]) == pytest.approx(np.std(stats.hmean([base, new]), ddof=1))


def test_missing_is_shown(tmp_path):
    text = (EXPECTED / "base2new.txt").read_text()
    assert "(2 of 3 seeds)" in text and GONE[0] in text
    shutil.copytree(RUNS / "base2new", tmp_path / "r")
    for path in tmp_path.rglob("CILMP/vit_b16/seed*"):
        if "busi" in path.parts and "test_new" in path.parts:
            shutil.rmtree(path)
    [table] = protocols.base2new(runs.collect(tmp_path)[0])
    row = dict(table.rows)["BUSI", "CILMP"]
    assert [cell.text() for cell in row[1:]] == ["missing", "missing"]


def test_best_and_second():
    for style, best, second in (("md", "**98.89 ± 1.92**", "<u>95.56 ± 1.92</u>"),
                                ("latex", r"\textbf{98.89 $\pm$ 1.92}", r"\underline{95.56 $\pm$ 1.92}")):  # fmt: skip
        [table] = protocols.base2new(runs.where(runs.collect(RUNS)[0], ["dataset=KVASIR"]))
        assert best in table.render(style) and second in table.render(style)


def test_runs_of_different_settings_are_not_averaged():
    found = runs.where(runs.collect(RUNS)[0], ["dataset=BUSI"])
    with pytest.raises(UserError, match="differ in .*shots"):
        runs.pivot([r for r in found if r["classes"] == "all"], ["trainer"], "dataset", "accuracy")


def test_one_trainer_with_several_options_is_several_rows():
    found = runs.where(runs.collect(RUNS)[0], ["dataset=BUSI", "trainer=CILMP", "classes=base", "shots=16"])
    twins = [run | {"options": run.get("options", {}) | {"TRAINER.CILMP.INTERVENTION": "none"}} for run in found]
    other_folder = [run | {"options": run.get("options", {}) | {"OUTPUT_DIR": "elsewhere"}} for run in found]
    names = {run["name"] for run in runs.prepare([*found, *twins])}
    assert names == {"CILMP [intervention default]", "CILMP [intervention none]"}
    with pytest.raises(UserError, match="same run twice"):
        runs.pivot(runs.prepare([*found, *other_folder]), ["trainer"], "dataset", "accuracy")


def test_representations_are_told_by_name_or_by_path_where_names_are_equal():
    key = "TRAINER.CILMP.REPRESENTATIONS"
    assert runs.options_told(key, ["a/llama.pt", "b/qwen.pt"]) == ["representations llama", "representations qwen"]
    assert runs.options_told(key, ["a/x.pt", "b/x.pt"]) == ["representations a/x.pt", "representations b/x.pt"]
    assert runs.options_told("OPTIM.LR", [0.1, 0.02]) == ["lr 0.1", "lr 0.02"]


def test_the_source_of_a_run_is_the_data_set_its_prompts_were_trained_on(tmp_path):
    def run(folder, dataset, model_dir=""):
        return dict(version=1, trainer="CoOp", dataset=dataset, path=tmp_path / folder, model_dir=model_dir)

    tail = "shots_16/CoOp/tiny/seed1"
    found = [run(f"train_base/{data}/{tail}", data) for data in ("BUSI", "KVASIR")]
    found += [
        run(f"test_new/{data}/{tail}", data, f"elsewhere/train_base/{data}/{tail}") for data in ("BUSI", "KVASIR")
    ]
    found += [run("BUSI/CoOp/tiny_16shots/seed1", "BUSI")]
    found += [run("evaluation/BUSI/CoOp/t/KVASIR/seed1", "KVASIR", "elsewhere/BUSI/CoOp/tiny_16shots/seed1")]
    assert [run["source"] for run in runs.prepare(found)] == ["", "", "", "", "", "BUSI"]


def test_trainers_stand_in_the_order_of_their_numbers():
    found = [dict(name=f"CILMP [rank {rank}]") for rank in ("16", "4", "default", "0.5")]
    told = ["rank 0.5", "rank 4", "rank 16", "rank default"]
    assert runs.in_order(found, "trainer") == [f"CILMP [{name}]" for name in told]


def test_paired_tests_equal_scipy():
    found = runs.where(runs.collect(RUNS)[0], ["classes=base"])
    over, per_image = compare(found, "CILMP", "accuracy")
    ours = np.r_[accuracies("CILMP", "BUSI", "base"), accuracies("CILMP", "KVASIR", "base")]
    raw = {}
    for rival in ("CoOp", "ZeroshotCLIP"):
        theirs = np.r_[accuracies(rival, "BUSI", "base"), accuracies(rival, "KVASIR", "base")]
        test = stats.ttest_rel(ours, theirs)
        interval = test.confidence_interval(0.95)
        raw[rival] = (test.pvalue, stats.wilcoxon(ours - theirs).pvalue, interval.low, interval.high)
    for labels, (n, mean, low, high, t, signed) in over.rows:
        p = raw[labels[0]]
        assert signed >= p[1]
        assert n == 6 and (low, high) == pytest.approx(p[2:])
        assert mean == pytest.approx((low + high) / 2)
        order = sorted(r[0] for r in raw.values())
        assert t == pytest.approx(max(2 * order[0], order[1]) if p[0] == order[1] else 2 * order[0])
    row = dict(per_image.rows)["BUSI", "base", "16", "ZeroshotCLIP"]
    assert row[0] == 30 and row[3] < row[2] < row[4]


def test_mcnemar_is_the_binomial_of_discordant_images():
    ours, theirs = np.zeros(40, bool), np.zeros(40, bool)
    ours[:12], theirs[10:13] = True, True  # 10 only ours, 1 only theirs
    assert significance.mcnemar(ours, theirs) == pytest.approx(2 * sum(stats.binom.pmf(k, 11, 0.5) for k in (0, 1)))
    assert significance.mcnemar(ours, ours) == 1.0


@pytest.mark.slow
def test_bootstrap_interval_covers_at_its_rate():
    """Of 60 samples of differences with mean 0.1, the 95 % interval holds it in about 57."""
    rng = np.random.default_rng(0)
    held = 0
    for i in range(60):
        sample = rng.choice([-1.0, 0.0, 1.0], (1, 80), p=[0.1, 0.7, 0.2])
        [[low, high, _]] = significance.bootstrap(sample, seed=i)
        held += low <= 0.1 <= high
    assert 51 <= held < 60


def test_holm():
    """Holm's own recipe, by hand: 4 x 0.01, 3 x 0.02 (raised), 2 x 0.03 (raised by the one before), 0.5."""
    assert significance.holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])


def error(capsys, *arguments):
    from cilmp.errors import exit_on_user_error

    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(lambda: program.main([str(a) for a in arguments]))
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    return said[-1]


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "No folder" in error(capsys, tmp_path / "nowhere")
    assert "no run has finished there" in error(capsys, tmp_path)
    half = tmp_path / "a" / "result.json"
    half.parent.mkdir()
    half.write_text('{"version": 1, "trainer": "Co')
    assert "damaged" in error(capsys, tmp_path)
    record = json.loads((folder("CoOp", "BUSI", "base", 16, 1) / "result.json").read_text())
    records.write(tmp_path / "b" / "result.json", record)
    program.main([str(tmp_path)])  # the whole one is shown, the half one named
    assert "damaged" in capsys.readouterr().err
    records.write(tmp_path / "c" / "result.json", record | {"version": 2, "seed": 2})
    assert "version 1" in error(capsys, tmp_path)
    assert "Did you mean accuracy" in error(capsys, RUNS, "--metric", "acuracy", "--where", "classes=base")
    assert "leaves no run; shots is one of" in error(capsys, RUNS, "--where", "shots=7")
    assert "Did you mean" in error(capsys, RUNS, "--compare", "CLMP")


def test_record_survives_a_kill_while_writing(tmp_path, monkeypatch):
    path = records.write(tmp_path / "result.json", {"metrics": {"auroc": float("nan"), "accuracy": np.float32(50)}})
    assert json.loads(path.read_text())["metrics"] == {"auroc": None, "accuracy": 50.0}
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        records.write(path, {"metrics": {}})
    assert json.loads(path.read_text())["metrics"]["accuracy"] == 50.0
