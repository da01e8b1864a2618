"""The report of runs as people have them: damaged ones among them, odd names, very many classes."""

import base64
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cilmp.analysis import charts, panels, report
from cilmp.errors import UserError
from cilmp.results import conformal, metrics, records, selective
from cilmp.results.predictions import NAME, Predictions
from cilmp.results.tables import Cell

pytestmark = pytest.mark.slow  # whole reports

ODD = [r"$\grade$ 3", "$$", "a & b <i>", "50 %", r"x_1^2 \$", "a\x00b", "\ud800y9", "_hidden"]


def run(folder, trainer="CoOp", seed=1, shots=16, names=("a", "b"), classes="all", **fields):
    labels = np.arange(2 * len(names)) % len(names)
    logits = np.random.default_rng(seed).normal(size=(len(labels), len(names)))
    record = dict(version=records.VERSION, trainer=trainer, dataset="X", classes=classes, shots=shots, seed=seed)
    place = folder / f"{len(trainer)}{ord(trainer[0])}{classes}{shots}" / f"seed{seed}"
    place.mkdir(parents=True)
    Predictions(logits, labels, [f"{i}.png" for i in range(len(labels))], list(names)).write(place)
    loss = "".join(f"epoch [{e}/9] batch [1/1] loss {1 / e:.3f} ({1 / e:.3f})\n" for e in range(1, 9))
    (place / "log.txt").write_text(loss)
    recall = dict.fromkeys(names, 50.0)
    records.write(
        place / records.NAME, record | dict(metrics=metrics.scores(logits, labels), per_class=recall) | fields
    )
    return place


def written(tmp_path, *words):
    out = tmp_path / "report.html"
    report.main([str(tmp_path / "out"), "--out", str(out), *words])
    return out.read_text(encoding="utf-8")


def pictures(text):
    """{what it shows: the words in it} of every SVG; each is whole XML."""
    found = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)"', text)
    drawn = {alt: ET.fromstring(base64.b64decode(content)) for content, alt in found}
    return {alt: [t for t in map(str.strip, svg.itertext()) if t] for alt, svg in drawn.items()}


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_as_it_is_written(tmp_path, name):
    for shots in (1, 16):
        run(tmp_path / "out", name, shots=shots, names=(name, "b"))
    for classes in ("base", "new"):
        run(tmp_path / "out", name, classes=classes, names=(name, "b"))
    drawn = pictures(written(tmp_path))
    shown = "".join(c if c.isprintable() else " " for c in name).strip()
    for kind in ("Confusion matrix", "Reliability", "Training loss", "training images a class", "harmonic mean"):
        found = [words for alt, words in drawn.items() if kind in alt]
        assert found and all(any(shown in word for word in words) for words in found), kind
    twice = [words for alt, words in drawn.items() if "Confusion" in alt][0]
    assert sum(shown in word for word in twice) == 3  # title, truth, prediction


def test_a_damaged_file_is_told_and_the_others_are_drawn(tmp_path, capsys):
    bad, _ = run(tmp_path / "out"), run(tmp_path / "out", "MaPLe")
    (bad / NAME).write_bytes((bad / NAME).read_bytes()[:500])
    text = written(tmp_path)
    assert capsys.readouterr().err.count(f"{bad / NAME} is damaged") == 1
    assert f"Not read: {bad / NAME} is damaged" in text
    assert [alt for alt in pictures(text) if "Confusion" in alt] == [
        "Confusion matrix of MaPLe, X, all classes, 16 shots"
    ]


def test_seeds_that_number_or_name_classes_otherwise_are_never_summed(tmp_path, capsys):
    """Where no record says so; a table refuses those that do."""
    run(tmp_path / "out", seed=1, names=("a", "b"))
    turned = run(tmp_path / "out", seed=2, names=("b", "a"))
    other = run(tmp_path / "out", seed=3, names=("a", "c"), per_class={})
    words = next(words for alt, words in pictures(written(tmp_path)).items() if "Confusion" in alt)
    assert f"{other} was tested on other classes" in capsys.readouterr().err
    first, second = (Predictions.read(turned.parent / f"seed{i}") for i in (1, 2))
    counts = metrics.confusion(first.predicted, first.labels, 2)
    counts = counts + metrics.confusion(1 - second.predicted, 1 - second.labels, 2)
    share = [f"{x:.0f}" for x in (100 * counts / counts.sum(1, keepdims=True)).ravel()]
    numbers = [word for word in words if word.isdigit()]
    assert numbers[::2] == share and numbers[1::2] == [str(n) for n in counts.ravel()]


def test_risk_and_sets_of_a_group(tmp_path):
    names = [f"c{i}" for i in range(10)]
    for trainer in ("CoOp", "MaPLe"):
        for seed in (1, 2):
            place = run(tmp_path / "out", trainer, seed, names=names)
    text = written(tmp_path)
    drawn, told = pictures(text), [Predictions.read(place.parent / f"seed{seed}") for seed in (1, 2)]
    (curves,) = (words for alt, words in drawn.items() if alt.startswith("Risk by coverage"))
    areas = [selective.aurc(p.probabilities.max(1), p.predicted == p.labels) for p in told]
    assert f"MaPLe, AURC {np.mean(areas):.2f} ± {np.std(areas, ddof=1):.2f} %" in curves
    bars = [words for alt, words in drawn.items() if alt.startswith("Sizes of prediction sets")]
    assert len(bars) == 2 and all({"LAC", "APS", "RAPS", "8+", "sets (%)"} <= set(words) for words in bars)
    cover = [conformal.resampled(conformal.lac(p.logits), p.labels, 0.1).coverage.mean() for p in told]
    assert f"{100 * np.mean(cover):.2f} ± {100 * np.std(cover, ddof=1):.2f}" in text


def test_too_few_images_for_sets_are_told(tmp_path):
    run(tmp_path / "out")
    assert "No sets: alpha 0.1 needs 9 images to set a threshold, and half of the 4 test images are 2" in written(
        tmp_path
    )


def test_runs_of_two_splits_are_two_pictures(tmp_path):
    run(tmp_path / "out", "CoOp", split="test")
    run(tmp_path / "out", "MaPLe", split="val")
    titles = [alt for alt in pictures(written(tmp_path)) if "Confusion" in alt]
    assert [title.split("split ")[1] for title in titles] == ["test", "val"]


@pytest.mark.parametrize("classes, words", [(2, 15), (12, 315), (64, 131), (65, 3), (1000, 3)])
def test_a_matrix_of_many_classes_has_a_fixed_size(classes, words):
    address = panels.confusion_matrix("CoOp", np.eye(classes, dtype=int), [f"class {i}" for i in range(classes)])
    svg = ET.fromstring(base64.b64decode(address.split(",")[1]))
    assert float(svg.get("width")) < 900 and float(svg.get("height")) < 900 and len(address) < 200_000
    assert len([t for t in svg.itertext() if t.strip()]) - 1 == words  # less the style
    if classes > panels.NAMES:
        assert f"truth ({classes} classes in label order)" in list(svg.itertext())


def test_a_loss_s_axis_holds_numbers_not_formulas():
    curve = np.arange(1, 30), 3.0 / np.arange(1, 30)
    svg = base64.b64decode(charts.svg(charts.learning_curves({"CoOp": [curve]})).split(",")[1]).decode()
    assert ">0.1<" in svg and "mathdefault" not in svg


def test_bars_of_no_number_are_drawn():
    assert charts.svg(charts.base_new_bars({"CoOp": [Cell({}), Cell({1: 1.0}), Cell({})]}, "accuracy"))


def test_published_figures_stand_beside_the_cells_they_match(tmp_path):
    columns = "paper,source,method,backbone,dataset,protocol,shots,classes,metric,value,deviation,seeds"
    (tmp_path / "p.csv").write_text(f"{columns}\nMine & Co,t,CoOp,tiny,X,few_shot,16,all,accuracy,12.5,,\n")
    run(tmp_path / "out", backbone="tiny")
    assert "Beside" not in written(tmp_path)
    text = written(tmp_path, "--beside", str(tmp_path / "p.csv"))
    assert "Mine &amp; Co" in text and "<td>12.50</td>" in text


def test_a_file_of_other_metrics_is_told_and_one_of_no_use_ends_before_any_picture(tmp_path, monkeypatch):
    columns = "paper,source,method,backbone,dataset,protocol,shots,classes,metric,value,deviation,seeds"
    (tmp_path / "p.csv").write_text(f"{columns}\nMine,t,CoOp,tiny,X,few_shot,16,all,top5,12.5,,\n")
    run(tmp_path / "out", backbone="tiny")
    text = written(tmp_path, "--beside", str(tmp_path / "p.csv"))
    assert "not compared: figures in top5, which these runs do not have" in text and "Confusion matrix" in text
    (tmp_path / "p.csv").write_text(columns)
    monkeypatch.setattr(report, "images", lambda *_: pytest.fail("pictures were drawn first"))
    with pytest.raises(UserError, match="holds no figure"):
        written(tmp_path, "--beside", str(tmp_path / "p.csv"))


def test_a_long_table_over_images_is_shown_where_it_is_asked_for(tmp_path, monkeypatch):
    for trainer, year in (("CoOp", 2022), ("MaPLe", 2023), ("FullFineTune", 2021)):
        run(tmp_path / "out", trainer, method={"kind": "prompt", "year": year})
    over_images, told = "paired over test images", "--compare MaPLe shows the 2 comparisons over test images too."
    monkeypatch.setattr(report, "MANY", 2)
    text = written(tmp_path)
    assert over_images in text and told not in text
    monkeypatch.setattr(report, "MANY", 1)
    text = written(tmp_path)
    assert over_images not in text and told in text and "paired over (data set, seed)" in text
    text = written(tmp_path, "--compare", "MaPLe")
    assert over_images in text and told not in text


def test_significance_is_there_unasked(tmp_path):
    run(tmp_path / "out", "CoOp", method={"kind": "prompt", "year": 2022})
    assert "Significance" not in written(tmp_path)  # nothing to compare with
    run(tmp_path / "out", "MaPLe", method={"kind": "prompt", "year": 2023})
    run(tmp_path / "out", "FullFineTune", method={"kind": "fine-tuning", "year": 2021})
    assert "MaPLe minus each" in written(tmp_path)
    assert "CoOp minus each" in written(tmp_path, "--compare", "CoOp")
