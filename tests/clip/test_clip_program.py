"""`cilmp clip`: what is listed is what can be loaded, and a checksum tells one backbone from another."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from cilmp.clip import __main__ as program
from cilmp.clip import build, load_clip
from cilmp.clip.backbones import TINY
from cilmp.errors import UserError


def shown(capsys, *arguments) -> dict[str, str]:
    program.main(["show", *map(str, arguments)])
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split("  ", 1) for line in lines)


def test_listed_is_what_loads_and_what_is_here(tmp_path, monkeypatch, capsys):
    from clip.clip import _MODELS

    assert set(program.SIZES) < set(_MODELS)
    monkeypatch.setattr(program, "CACHE", tmp_path)
    (tmp_path / "ViT-B-16.pt").touch()
    program.main(["list"])
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    assert set(rows) == {*_MODELS, *program.KNOWN, "tiny", "tiny-bert", "hf:<repository", "open_clip:<repository"}
    assert "when first used" not in rows["ViT-B/16"] and "when first used" in rows["ViT-B/32"]
    assert rows["ViT-L/14@336px"].split()[1] == "336" and rows["tiny"].split()[1] == "64"


def test_a_copy_has_the_same_checksums_and_a_changed_weight_others(tmp_path, capsys):
    weights = load_file(TINY)
    save_file(weights, tmp_path / "copy.safetensors", {"activation": "quick_gelu"})
    weights["ln_final.weight"] = weights["ln_final.weight"] * torch.linspace(1, 1.01, 128)
    save_file(weights, tmp_path / "other.safetensors", {"activation": "quick_gelu"})
    tiny = shown(capsys, "tiny")
    assert tiny["image tower"].split() == "vision transformer, patch 16, width 128, 4 layers, 2 heads".split()
    assert tiny == shown(capsys, "--path", tmp_path / "copy.safetensors")
    other = shown(capsys, "--path", tmp_path / "other.safetensors")
    assert [key for key in tiny if tiny[key] != other[key]] == [f"features of '{program.SENTENCE}'"]


def test_checksums_are_of_the_features_in_use():
    model = load_clip("tiny")
    with torch.no_grad():
        sentence = program.checksum(model.double().encode_text(model.tokenize([program.SENTENCE])))
    assert sentence in dict(program.facts(load_clip("tiny"))).values()
    unit = torch.tensor([[0.6, -0.8]])
    assert program.checksum(unit) == program.checksum(2 * unit + 1e-6) != program.checksum(unit + 1e-3)


def test_a_resnet_is_shown(capsys, monkeypatch):
    from clip.model import CLIP as Theirs

    theirs = Theirs(64, 64, (1, 1, 1, 1), 16, None, 77, 49408, 64, 1, 2)
    monkeypatch.setattr(program, "load_clip", lambda *_, **__: build.openai(theirs.state_dict()))
    assert "ModifiedResNet, blocks 1 1 1 1" in shown(capsys, "RN50")["image tower"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Which backbone"),
        (["ViT-B/17"], "Unknown backbone 'ViT-B/17'. Did you mean ViT-B/16"),
        (["--path", "nowhere.pt"], "No file or folder of weights at nowhere.pt"),
    ],
)
def test_slips_end_in_one_line(arguments, said):
    with pytest.raises(UserError, match=said):
        program.main(["show", *arguments])
