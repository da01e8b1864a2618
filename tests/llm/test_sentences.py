"""Sentences about each class: made, gone on from, read as data."""

import json
import sys

import pytest

from cilmp.errors import UserError
from cilmp.llm import __main__, sentences
from cilmp.llm.classes import Classes
from cilmp.llm.model import load_llm, locate
from cilmp.llm.states import tokens

SAID = {"normal": ["It is round.", "It is dark."], "big cyst": ["A ring, thin.", "A black disc."]}
TABLE = """
import os
os.remove(__file__)
raise SystemExit("executed")
SHORT = {"other": ["no"]}
TEMPLATES = {"normal": ["It is round.", "It is dark."], "big cyst": ["A ring, " "thin.", "A black disc."]}
"""


@pytest.fixture
def llm(make_llm):
    return load_llm(locate(str(make_llm("Llama"))))


@pytest.fixture
def told(monkeypatch):
    """What the LLM says in turn, and the (number, seed) of each time it was asked."""
    asked, answers = [], []

    def sample(llm, start, n, temperature, seed, most=48):
        asked.append((n, seed))
        return answers.pop(0)

    monkeypatch.setattr(sentences, "sample", sample)
    return answers, asked


def test_sampling_follows_its_seed(llm):
    start = tokens(llm, "a long thin one", True)
    first, again, other = (sentences.sample(llm, start, 4, 1.0, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == 4 and len(set(first)) > 1


@pytest.mark.parametrize(
    "text, sentence",
    [
        (" A cyst is a\n dark disc. It has a rim.", "A cyst is a dark disc."),
        ("It is round, about 1.5 cm wide! More", "It is round, about 1.5 cm wide!"),
        ("Round.", ""),
        ("a sentence that was cut off by the limit of", ""),
        ("word " * 41 + ".", ""),
    ],
)
def test_the_first_whole_sentence_of_an_answer(text, sentence):
    assert sentences.first_sentence(text) == sentence


def test_different_ones_are_gathered_and_kept_with_how_they_were_made(llm, told, tmp_path):
    answers, asked = told
    answers += [["It is dark.", "It is  DARK.", "No end"], ["It is round."], ["A ring, thin.", "A black disc."]]
    out = tmp_path / "brains.json"
    made = sentences.make(Classes("BRAINS", ["normal", "big_cyst"], "MR", "brain"), lambda: llm, out, 2, seed=3)
    assert made.classes == {"normal": ["It is dark.", "It is round."], "big_cyst": SAID["big cyst"]}
    assert [n for n, _ in asked] == [3, 2, 3] and asked[0][1] != asked[1][1]
    there = sentences.read(out)
    assert there == made and there.made["seed"] == 3 and there.made["model"] == llm.source.name
    assert "{modality} image of the {organ}" in there.made["question"]
    sentences.make(Classes("BRAINS", ["normal"], "MR", "brain"), None, out, 2, seed=3)  # nothing left: no LLM
    with pytest.raises(UserError, match="made otherwise"):
        sentences.make(Classes("BRAINS", ["normal"], "MR", "brain"), None, out, 3, seed=3)


def test_classes_done_are_kept_when_one_fails(llm, told, tmp_path):
    answers, _ = told
    answers += [["It is dark."], *([["Broken off"]] * sentences.ROUNDS)]
    out, listed = tmp_path / "x.json", Classes("", ["normal", "cyst"])
    with pytest.raises(UserError, match="made 0 different sentences for 'cyst'"):
        sentences.make(listed, lambda: llm, out, 1)
    answers += [["It is round."]]
    assert list(sentences.make(listed, lambda: llm, out, 1).classes) == ["normal", "cyst"]
    assert not answers  # 'normal' was not asked again


@pytest.mark.parametrize("name", ["x.json", "x.py"])
def test_what_others_wrote_is_read_and_never_run(name, tmp_path):
    path = tmp_path / name
    path.write_text(TABLE if name == "x.py" else json.dumps(SAID))
    assert sentences.load(path, ["Big_Cyst", "normal"], 1) == [["A ring, thin."], ["It is round."]]
    assert path.exists()


@pytest.mark.parametrize(
    "text, classes, n, said",
    [
        (json.dumps(SAID), ["nodule"], 1, "no entries for class 'nodule'"),
        (json.dumps(SAID), ["normal"], 3, "2 sentences for class 'normal', and 3 are asked for"),
        (json.dumps({"normal": "It is dark."}), ["normal"], 1, "holds no"),
        ("{", ["normal"], 1, "Cannot read class sentences"),
    ],
)
def test_what_does_not_fit_is_one_line(text, classes, n, said, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        sentences.load(path, classes, n)
    assert "\n" not in str(error.value)


def test_where_none_are_the_command_that_makes_them_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cilmp.llm sentences --dataset-config-file busi"):
        sentences.locate("", "BUSI")


def test_the_command_line(make_llm, monkeypatch, tmp_path, told):
    told[0].append(["It is round.", "It is dark."])
    out = tmp_path / "x.json"
    words = ["sentences", "--classes", "normal", "--model", str(make_llm("Llama")), "--n", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["cilmp.llm", *words])
    __main__.main()
    assert sentences.load(out, ["normal"], 2) == [SAID["normal"]]


def test_those_shipped_are_whole():
    shipped = sentences.read(sentences.locate("", "PHANTOMS"))
    assert all(len(set(said)) == shipped.made["n"] == 50 for said in shipped.classes.values())
    assert len(shipped.classes) == 8 and "smollm2" in shipped.made["model"].lower()
