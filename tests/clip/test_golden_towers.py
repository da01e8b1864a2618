"""Towers of open_clip, timm, BERT and SigLIP against the numbers those libraries gave (golden/)."""

import json

import pytest
import torch
from foreign import biomed_folder, golden, open_clip_config, siglip_folder

from cilmp.clip import load_clip, openclip
from cilmp.clip.tokenizers import BytePairs


def check(model, said: dict, prefix: str = "") -> None:
    with torch.no_grad():
        image, text = model.encode_image(said["images"]), model.encode_text(said["tokens"])
        literal = model.encode_image(said["images"], literal=True)
        logits = model.logits(image, text)
    for ours, theirs in ((image, "image_features"), (literal, "image_features"), (text, "text_features")):
        torch.testing.assert_close(ours, said[prefix + theirs], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, said[prefix + "logits"], rtol=1e-5, atol=2e-5)


def test_biomedclip(tmp_path):
    _, said, facts = golden("openclip_biomed_tiny")
    model = load_clip(f"open_clip:{biomed_folder(tmp_path)}")
    assert torch.equal(model.tokenize(json.loads(facts["texts"])), said["tokens"])
    check(model, said)
    with torch.no_grad():
        layers = model.text_layers(said["tokens"])
    hidden = torch.stack([said[f"text_hidden.{i}"][:, 0] for i in (1, 2, 3)])
    torch.testing.assert_close(layers, hidden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("custom", [False, True], ids=["plain", "custom_text"])
def test_native_vit(activation, custom):
    weights, said, facts = golden("openclip_vit_tiny")
    config = open_clip_config(facts)
    config["model_cfg"]["quick_gelu"] = activation == "quick_gelu"
    if custom:
        config["model_cfg"]["custom_text"] = True
        top = ("visual.", "logit_scale")
        weights = {key if key.startswith(top) else f"text.{key}": value for key, value in weights.items()}
    check(openclip.from_config(weights, config, BytePairs(24)), said, f"{activation}.")


def test_less_usual_switches():
    weights, said, facts = golden("openclip_variants_tiny")
    check(openclip.from_config(weights, open_clip_config(facts), BytePairs(24)), said)


def test_siglip(tmp_path):
    _, said, _ = golden("siglip_tiny")
    model = load_clip(f"hf:{siglip_folder(tmp_path)}")
    check(model, said)
    assert model.tokenize(["Normal, fundus."])[0].tolist() == [5, 8, *[1] * 14]
    assert model.pixels.mean == (0.5,) * 3 and model.pixels.resize == "squash"
