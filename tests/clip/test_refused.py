"""What would load wrong, or not at all, is refused in one line that names it and a mend."""

import json

import pytest
import torch
from foreign import biomed_folder, golden, siglip_folder
from models import openai_clip
from safetensors.torch import load_file, save_file

from cilmp.clip import load_clip
from cilmp.clip.backbones import pixels_of
from cilmp.errors import UserError

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def edit(folder, change, name=CONFIG):
    said = json.loads((folder / name).read_text())
    change(said.get("model_cfg", said))
    (folder / name).write_text(json.dumps(said))


def as_bin(folder):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:-5000])


def as_pickle(folder):
    (folder / WEIGHTS).unlink()
    torch.save({"visual.proj": "a word"}, folder / "open_clip_pytorch_model.bin")


def without(folder, key):
    weights = load_file(folder / WEIGHTS)
    del weights[key]
    save_file(weights, folder / WEIGHTS)


def vision(key, value):
    return lambda folder: edit(folder, lambda model: model["vision_cfg"].__setitem__(key, value))


def text(key, value):
    return lambda folder: edit(folder, lambda model: model["text_cfg"].__setitem__(key, value))


BIOMED = {
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "No weights in .*looked for open_clip_model.safetensors"),
    "no config": (lambda f: (f / CONFIG).unlink(), "describes BertModel, which is not supported here"),
    "torn config": (lambda f: (f / CONFIG).write_text("{"), "is not JSON"),
    "torn weights": (as_bin, "Cannot read backbone weights from .*open_clip_pytorch_model.bin"),
    "no tensors": (as_pickle, "holds a str as 'visual.proj', not a tensor"),
    "no tokenizer": (lambda f: (f / "vocab.txt").unlink(), "No tokenizer in .*tokenizer.json and vocab.txt"),
    "CoCa": (lambda f: edit(f, lambda model: model.update(multimodal_cfg={"width": 8})), "CoCa"),
    "audio": (lambda f: edit(f, lambda model: model.update(audio_cfg={"width": 8})), "sets model_cfg.audio_cfg"),
    "EVA": (vision("timm_model_name", "eva02_base_patch16_clip_224"), "tower eva02_base_patch16_clip_224 is not supp"),
    "pixel size": (vision("image_size", 64), "says vision_cfg.image_size 64 and the weights have 32"),
    "heads": (
        lambda f: edit(f, lambda model: model["vision_cfg"].pop("head_width")),
        "attention heads the image tower vit_tinytest_patch16_32",
    ),
    "heads that do not fit": (vision("head_width", 9), "width 64 cannot have 7 attention heads"),
    "qk_norm": (vision("qk_norm", True), "vision_cfg.qk_norm to True, which is not supported"),
    "pool": (vision("timm_pool", "rot_attn"), "timm_pool rot_attn is not supported"),
    "roberta": (text("hf_model_name", "xlm-roberta-base"), "xlm-roberta-base is not supported"),
    "pooler": (text("hf_pooler_type", "mean_pooler"), "hf_pooler_type mean_pooler is not supported"),
    "context": (text("context_length", 77), "context_length 77 and the weights have 64"),
    "missing tensor": (lambda f: without(f, "visual.trunk.norm.bias"), "missing .*visual.ln_post.bias"),
}


@pytest.mark.parametrize("name", BIOMED)
def test_a_folder_of_open_clip(name, tmp_path):
    damage, said = BIOMED[name]
    damage(biomed_folder(tmp_path))
    with pytest.raises(UserError, match=said) as told:
        load_clip("", str(tmp_path))
    assert "\n" not in str(told.value)


def test_a_text_longer_than_the_context(tmp_path):
    model = load_clip("", str(biomed_folder(tmp_path)))
    with pytest.raises(UserError, match="longer than the 32 tokens"):
        model.tokenize(["lesion " * 31])
    assert len(model.tokenizer.encode("lesion " * 30)) == 32


def test_a_file_beside_its_config_is_read_by_it(tmp_path):
    folder = biomed_folder(tmp_path)
    whole, one = load_clip("", str(folder)), load_clip("", str(folder / WEIGHTS))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), one.parameters(), strict=True))


def test_openai_s_names_without_an_activation(tmp_path):
    path = tmp_path / "laion.safetensors"
    save_file({key: value.contiguous() for key, value in openai_clip().state_dict().items()}, path)
    with pytest.raises(UserError, match="does not say which GELU.*MODEL.BACKBONE.ACTIVATION"):
        load_clip("ViT-B/16", str(path))
    with pytest.raises(UserError, match="ACTIVATION is 'relu'; choose one of"):
        load_clip("ViT-B/16", str(path), activation="relu")
    features = []
    for activation in ("gelu", "quick_gelu"):
        model = load_clip("ViT-B/16", str(path), activation=activation)
        features.append(model.encode_text(model.tokenize(["normal"])))
    assert (features[0] - features[1]).abs().max() > 1e-4


def test_a_clip_config_with_other_keys(tmp_path):
    """A port with code of its own: from_pretrained would fill it with random numbers."""
    transformers = pytest.importorskip("transformers")
    model, _, _ = golden("openclip_biomed_tiny")
    transformers.CLIPConfig().save_pretrained(tmp_path)
    save_file(model, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="Not the weights of a CLIP"):
        load_clip(f"hf:{tmp_path}")
    edit(tmp_path, lambda said: said.update(architectures=["BiomedCLIPModel"]), "config.json")
    with pytest.raises(UserError, match="describes BiomedCLIPModel, which is not supported"):
        load_clip(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(model_type="siglip2"), "describes siglip2"),
        (
            dict(vision_config=dict(image_size=48, hidden_size=48, num_attention_heads=3)),
            "image_size 48 and the weights",
        ),
    ],
)
def test_a_siglip_that_is_none(change, said, tmp_path):
    pytest.importorskip("transformers")
    siglip_folder(tmp_path)
    edit(tmp_path, lambda config: config.update(change), "config.json")
    with pytest.raises(UserError, match=said):
        load_clip(f"hf:{tmp_path}")


def test_a_missing_tensor_of_siglip(tmp_path):
    pytest.importorskip("transformers")
    siglip_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vision_model.head.probe"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="missing .*visual.pooling.probe"):
        load_clip(f"hf:{tmp_path}")


@pytest.mark.parametrize("name", ["hf:nobody", "open_clip:./nowhere", "biomedclp"])
def test_a_name_that_leads_nowhere(name):
    with pytest.raises(UserError, match="No folder or repository|Did you mean biomedclip"):
        pixels_of(name)
