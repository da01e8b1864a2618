"""From train.py to table, report and predictions: three trainers on the embedded set, one epoch each."""

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cilmp import predict
from cilmp.analysis import report, similarity, tsne
from cilmp.errors import exit_on_user_error
from cilmp.results import metrics, records, runs
from cilmp.results.predictions import Predictions
from cilmp.sweep import __main__ as sweep

pytestmark = pytest.mark.slow
TRAINERS = "ZeroshotCLIP", "CoOp", "CILMP"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def call(main, *arguments, code=0):
    """A program's main in this process, which has torch already -> (standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        exit_on_user_error(lambda: main([str(a) for a in arguments]))
    assert (stop.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "data").mkdir()
    options = ["few_shot", "--seeds", 1, "--shots", 1, "--jobs", 2, "--data", folder / "data", "--cfg", "tiny"]
    options += ["--output", folder / "output", "--trainers", *TRAINERS, "--", "OPTIM.MAX_EPOCH", 1]
    return [str(option) for option in options]


@pytest.fixture(scope="module")
def output(asked):
    run = subprocess.run([sys.executable, "-m", "cilmp.sweep", *asked], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in TRAINERS) and "missing" not in run.stdout
    return Path(asked[asked.index("--output") + 1])


def test_a_second_sweep_finds_the_runs_and_what_they_were_asked(asked, output):
    said, _ = call(sweep.main, *asked)
    assert "3 finished" in said and "other options" not in said
    _, said = call(sweep.main, *asked[:-1], 2, code=2)
    assert "OPTIM.MAX_EPOCH 1 there, 2 asked" in said and "and 2 more" in said


def folder(output, trainer):
    return output / "phantoms" / trainer / "tiny_1shots" / "seed1"


def test_the_record_s_metrics_are_those_of_its_predictions(output):
    for run in runs.collect(output)[0]:
        with np.load(run["path"] / "predictions.npz") as file:
            scores = metrics.scores(file["logits"], file["label"])
            assert list(run["per_class"]) == file["classnames"].tolist()
        for name, expected in scores.items():
            assert run["metrics"][name] == pytest.approx(expected, abs=1e-4), name


def test_a_record_has_the_fields_of_the_schema(output):
    for trainer in TRAINERS:
        record = records.read(folder(output, trainer))
        nested = {f"method.{key}" for key in record["method"]}
        assert set(record) | nested == set(records.FIELDS) - {"prompts"}  # which shared ones have


@pytest.mark.parametrize("trainer", ["CoOp", "CILMP"])
def test_predict_gives_the_test_s_probabilities_without_the_data_set(output, tmp_path, trainer):
    saved = Predictions.read(folder(output, trainer))
    some = saved.paths[::40]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "p.csv"
    arguments = ["--model-dir", folder(output, trainer), *some[:2], broken, *some[2:]]
    _, said = call(predict.main, *arguments, "--out", out, "--batch-size", 4, code=1)
    assert str(broken) in said and f"{len(some)} images in" in said and "1 unreadable" in said
    rows = list(csv.reader(out.open()))
    assert rows[0] == ["path", "prediction", *saved.classnames] and [row[0] for row in rows[1:]] == some
    ours = np.array([[float(x) for x in row[2:]] for row in rows[1:]])
    np.testing.assert_allclose(ours, saved.probabilities[::40], atol=2e-5)
    assert [row[1] for row in rows[1:]] == [saved.classnames[i] for i in saved.probabilities[::40].argmax(1)]


def test_predict_writes_no_formula(tmp_path):
    rows = [predict.Answer("=1.png", np.array([0.75, 0.25])), predict.Answer("b.png", np.array([0.0, 1.0]))]
    predict.write(rows, ["@ill", "well"], str(tmp_path / "p.csv"))
    assert (tmp_path / "p.csv").read_text() == ("path,prediction,'@ill,well\n'=1.png,'@ill,0.75,0.25\nb.png,well,0,1\n")
    predict.write(rows, ["@ill", "well"], str(tmp_path / "p.json"))
    assert json.loads((tmp_path / "p.json").read_text())[0]["prediction"] == "@ill"


def test_predict_slips(output, tmp_path):
    model = folder(output, "CoOp")
    for arguments, said in [
        (["--model-dir", tmp_path, __file__], "No record at"),
        (["--model-dir", model, tmp_path / "nowhere.png"], "No image or folder at"),
        (["--model-dir", model, tmp_path], "No image in"),
        (["--model-dir", model, __file__, "--out", "x.txt"], ".csv or .json"),
    ]:
        _, error = call(predict.main, *arguments, code=2)
        assert error.splitlines()[-1].startswith("error: ") and said in error


def test_figures(output, tmp_path):
    folders = [folder(output, name) for name in ("CoOp", "CILMP")]
    call(tsne.main, folders[1], "--out", tmp_path / "tsne")
    image = Predictions.read(folders[0]).paths[0]
    call(similarity.main, *folders, "--image", image, "--out", tmp_path / "similarity")
    for name in ("tsne", "similarity"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    rows = list(csv.DictReader((tmp_path / "similarity.csv").open()))
    for run in folders:  # softmax of scaled cosines is the probability: log p differs by scale x cosine
        saved = Predictions.read(run)
        log_p = np.log(saved.probabilities[saved.paths.index(image)])
        cosine = np.array([float(row["image"]) for row in rows if row["run"] == str(run)])
        slope, rest, *_ = np.polyfit(cosine, log_p, 1, full=True)
        assert slope[0] > 1 and rest[0] < 1e-3


def test_report(output, tmp_path):
    out = tmp_path / "report.html"
    call(report.main, output, "--out", out, "--compare", "CILMP", "--mistakes", 2)
    text = out.read_text(encoding="utf-8")
    for heading in ("Tables", "Significance", "Confusion", "Reliability", "Learning curves", "mistakes", "Settings"):
        assert re.search(f"<h2>[^<]*{heading}</h2>", text)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "<script" not in text  # opens offline
    assert text.count("data:image/jpeg") == 3 * 2
    run = runs.where(runs.collect(output)[0], ["trainer=CoOp"])[0]
    assert f"{run['metrics']['accuracy']:.2f}" in text


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_report_in_a_browser(output, tmp_path):
    """No console message, every picture drawn, nothing wider than the window, ink on the page."""
    out, shot = tmp_path / "report.html", tmp_path / "shot.png"
    call(report.main, output, "--out", out)
    probe = (
        "<script>addEventListener('load', () => { const i = [...document.images];"
        "document.title = JSON.stringify([i.length, i.filter(x => !x.naturalWidth).length,"
        "document.documentElement.scrollWidth - innerWidth]); });</script></body>"
    )
    page = tmp_path / "probe.html"
    page.write_text(out.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    common = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]
    common += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,3000"]
    look = subprocess.run([*common, f"--screenshot={shot}", str(out)], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in look.stderr
    told = subprocess.run([*common, "--dump-dom", str(page)], capture_output=True, text=True, timeout=120)
    images, undrawn, overflow = json.loads(re.search(r"<title>(\[.*?\])</title>", told.stdout)[1])
    assert images > 5 and undrawn == 0 and overflow <= 0
    from PIL import Image

    with Image.open(shot) as picture:
        assert len(picture.convert("L").getcolors()) > 50
