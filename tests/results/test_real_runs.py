"""From train.py to table, report and predictions: three trainers on the embedded set, one epoch each."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cilmp import metrics, results
from cilmp.analysis.mistakes import Predictions

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def python(*arguments, code=0):
    run = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                         cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    assert run.returncode == code, run.stderr + run.stdout
    return run


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    options = ["--seeds", 1, "--shots", 1, "--jobs", 2, "--data", folder / "data", "--output", folder / "output"]
    options += ["--trainers", "ZeroshotCLIP", "CoOp", "CILMP", "--", "OPTIM.MAX_EPOCH", 1]
    run = python("-m", "cilmp.sweep", "few_shot", *options)
    assert all(name in run.stdout for name in ("ZeroshotCLIP", "CoOp", "CILMP")) and "missing" not in run.stdout
    again = python("-m", "cilmp.sweep", "few_shot", *options)
    assert "3 finished" in again.stdout and "other options" not in again.stdout
    changed = python("-m", "cilmp.sweep", "few_shot", *options[:-1], 2)
    assert "OPTIM.MAX_EPOCH 1 there, 2 asked" in changed.stdout
    return folder / "output"


def folder(output, trainer):
    return output / "phantoms" / trainer / "tiny_1shots" / "seed1"


def test_the_record_s_metrics_are_those_of_its_predictions(output):
    for run in results.collect(output)[0]:
        with np.load(run["path"] / "predictions.npz") as file:
            scores = metrics.scores(file["logits"], file["label"])
            assert list(run["per_class"]) == file["classnames"].tolist()
        for name, expected in scores.items():
            assert run["metrics"][name] == pytest.approx(expected, abs=1e-4), name


@pytest.mark.parametrize("trainer", ["CoOp", "CILMP"])
def test_predict_gives_the_test_s_probabilities_without_the_data_set(output, tmp_path, trainer):
    saved = Predictions.read(folder(output, trainer))
    some = saved.paths[::40]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "p.csv"
    arguments = ["-m", "cilmp.predict", "--model-dir", folder(output, trainer), *some[:2], broken, *some[2:]]
    run = python(*arguments, "--out", out, "--batch-size", 4, code=1)
    assert str(broken) in run.stderr and f"{len(some)} images in" in run.stderr and "1 unreadable" in run.stderr
    rows = list(csv.reader(out.open()))
    assert rows[0] == ["path", "prediction", *saved.classnames] and [row[0] for row in rows[1:]] == some
    ours = np.array([[float(x) for x in row[2:]] for row in rows[1:]])
    np.testing.assert_allclose(ours, saved.probabilities[::40], atol=2e-5)
    assert [row[1] for row in rows[1:]] == [saved.classnames[i] for i in saved.probabilities[::40].argmax(1)]


def test_predict_slips(output, tmp_path):
    model = folder(output, "CoOp")
    for arguments, said in [
        (["--model-dir", tmp_path, model], "No record at"),
        (["--model-dir", model, tmp_path / "nowhere.png"], "No image or folder at"),
        (["--model-dir", model, tmp_path], "No image in"),
        (["--model-dir", model, ROOT / "README.md", "--out", "x.txt"], ".csv or .json"),
    ]:
        run = python("-m", "cilmp.predict", *arguments, code=2)
        assert run.stderr.splitlines()[-1].startswith("error: ") and said in run.stderr


def test_figures(output, tmp_path):
    runs = [folder(output, name) for name in ("CoOp", "CILMP")]
    python("-m", "cilmp.analysis.tsne", *runs, "--out", tmp_path / "tsne")
    image = Predictions.read(runs[0]).paths[0]
    python("-m", "cilmp.analysis.similarity", *runs, "--image", image, "--out", tmp_path / "similarity")
    for name in ("tsne", "similarity"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    rows = list(csv.DictReader((tmp_path / "similarity.csv").open()))
    for run in runs:  # softmax of scaled cosines is the probability: log p differs by scale x cosine
        saved = Predictions.read(run)
        log_p = np.log(saved.probabilities[saved.paths.index(image)])
        cosine = np.array([float(row["image"]) for row in rows if row["run"] == str(run)])
        slope, rest, *_ = np.polyfit(cosine, log_p, 1, full=True)
        assert slope[0] > 1 and rest[0] < 1e-3


def test_report(output, tmp_path):
    out = tmp_path / "report.html"
    python("-m", "cilmp.analysis.report", output, "--out", out, "--compare", "CILMP", "--mistakes", 2)
    text = out.read_text(encoding="utf-8")
    for heading in ("Tables", "Significance", "Confusion", "Reliability", "Learning curves", "mistakes", "Settings"):
        assert re.search(f"<h2>[^<]*{heading}</h2>", text)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "<script" not in text  # opens offline
    assert text.count("data:image/jpeg") == 3 * 2
    run = results.where(results.collect(output)[0], ["trainer=CoOp"])[0]
    assert f"{run['metrics']['accuracy']:.2f}" in text


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1200])
def test_report_in_a_browser(output, tmp_path, width):
    """No console message, every picture drawn, nothing wider than a phone, ink on the page."""
    out = tmp_path / "report.html"
    python("-m", "cilmp.analysis.report", output, "--out", out)
    probe = (
        "<script>addEventListener('load', () => { const i = [...document.images];"
        "document.title = JSON.stringify([i.length, i.filter(x => !x.naturalWidth).length,"
        "document.documentElement.scrollWidth - innerWidth]); });</script></body>"
    )
    page = tmp_path / "probe.html"
    page.write_text(out.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    frame = tmp_path / "frame.html"  # a headless window is never narrower than 500 pixels, a frame is
    frame.write_text(f'<iframe src="probe.html" width="{width}" height="3000" style="border:0"></iframe>')
    shot = tmp_path / "shot.png"
    common = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    ]
    common += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={max(width, 500)},3000"]
    look = subprocess.run([*common, f"--screenshot={shot}", str(out)], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in look.stderr
    told = subprocess.run([*common, "--dump-dom", str(page)], capture_output=True, text=True, timeout=120)
    images, undrawn, overflow = json.loads(re.search(r"<title>(\[.*?\])</title>", told.stdout)[1])
    assert images > 5 and undrawn == 0 and overflow <= 0
    from PIL import Image

    with Image.open(shot) as picture:
        assert len(picture.convert("L").getcolors()) > 50
