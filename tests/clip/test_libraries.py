"""Folders as open_clip and transformers write them, made here with the real libraries, give their features."""

import json

import pytest
import torch
from foreign import golden
from safetensors.torch import save_file

from cilmp.clip import load_clip, openclip
from cilmp.errors import UserError

TEXTS = ["a photo of a normal fundus.", "Age-related macular degeneration, X", "pneumonia"]
STATS = dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], interpolation="bilinear", resize_mode="squash")
NATIVE = dict(image_size=32, layers=2, width=160, head_width=80, patch_size=16)
WORDS = dict(context_length=77, vocab_size=49408, width=48, heads=3, layers=2)
TIMM = dict(timm_model_name="vit_tinytest_patch16_32", timm_pool="", timm_proj="linear", image_size=32)
BERT = dict(hf_model_name="bert-tiny", hf_tokenizer_name="bert-tiny", context_length=32, hf_proj_type="mlp",
            hf_pooler_type="cls_last_hidden_state_pooler")  # fmt: skip
OLD = dict(hf_model_name="bert-tiny", hf_tokenizer_name="bert-tiny", context_length=32, proj="mlp",
           pooler_type="cls_last_hidden_state_pooler")  # fmt: skip
CASES = {
    "quick_gelu": dict(quick_gelu=True, vision_cfg=NATIVE, text_cfg=WORDS),
    "erf": dict(vision_cfg=NATIVE, text_cfg=WORDS),
    "custom_text": dict(custom_text=True, vision_cfg=NATIVE, text_cfg=WORDS),
    "resnet": dict(vision_cfg=dict(image_size=32, layers=[1, 1, 1, 1], width=8), text_cfg=WORDS),
    "biomedclip": dict(vision_cfg=TIMM, text_cfg=BERT),
    "timm_mean": dict(vision_cfg=TIMM | dict(timm_pool="avg", timm_proj_bias=True), text_cfg=WORDS),
    "bert_linear": dict(vision_cfg=NATIVE, text_cfg=BERT | dict(hf_proj_type="linear")),
}


def shaken(model):
    """The zeros and ones of a fresh model would hide mistakes."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and "running_var" not in name and "logit_scale" not in name:
            value.add_(torch.randn_like(value) * 0.05)
    return model.eval()


def bert_config(width: int = 48) -> dict:
    return json.loads(golden("openclip_biomed_tiny")[2]["bert_config"]) | dict(hidden_size=width)


def tokenizer_files(folder):
    words = json.loads(golden("openclip_biomed_tiny")[2]["vocab"])
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


@pytest.fixture(scope="module")
def open_clip():
    """The library, a tiny ViT known to its timm, and BERT made from a config that is here instead of on the hub."""
    library, timm = pytest.importorskip("open_clip"), pytest.importorskip("timm")
    transformers = pytest.importorskip("transformers")

    def vit_tinytest_patch16_32(pretrained=False, **kwargs):
        size = dict(img_size=32, patch_size=16, embed_dim=64, depth=2, num_heads=2)
        return timm.models.vision_transformer._create_vision_transformer("vit_base_patch16_224", **size | kwargs)

    vit_tinytest_patch16_32.__module__ = "timm.models.vision_transformer"
    timm.models.register_model(vit_tinytest_patch16_32)
    config = transformers.BertConfig(**bert_config())
    original = transformers.AutoConfig.from_pretrained
    transformers.AutoConfig.from_pretrained = lambda *_, **__: config
    yield library
    transformers.AutoConfig.from_pretrained = original


def made(open_clip, case: str):
    """(the library's model, what its open_clip_config.json says)."""
    from open_clip.model import CLIP, CustomTextCLIP

    config = dict(embed_dim=32, **CASES[case])
    custom = (
        config.get("custom_text") or "hf_model_name" in config["text_cfg"] or "timm_model_name" in config["vision_cfg"]
    )
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    text = dict(arguments["text_cfg"])
    if "hf_model_name" in text:
        arguments["text_cfg"] = text | dict(hf_model_pretrained=False)
    model = shaken((CustomTextCLIP if custom else CLIP)(**arguments))
    config["vision_cfg"] = dict(config["vision_cfg"])
    if "timm_model_name" in config["vision_cfg"]:  # a toy's heads no name tells
        config["vision_cfg"] |= dict(width=64, head_width=32)
    if custom:
        config["custom_text"] = True
    return model, dict(model_cfg=config, preprocess_cfg=STATS)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("case", CASES)
def test_an_open_clip_folder(case, kind, open_clip, tmp_path):
    theirs, config = made(open_clip, case)
    if kind == "bin":  # an older folder
        if "hf_model_name" in config["model_cfg"]["text_cfg"] and case == "biomedclip":
            config["model_cfg"]["text_cfg"] = OLD
        weights = {f"module.{key}": value for key, value in theirs.state_dict().items()}
        torch.save(dict(epoch=1, state_dict=weights), tmp_path / "open_clip_pytorch_model.bin")
    else:
        weights = {key: value.contiguous() for key, value in theirs.state_dict().items()}
        save_file(weights, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps(bert_config()))
    tokenizer_files(tmp_path)
    ours = load_clip(f"open_clip:{tmp_path}")
    tokens, image = ours.tokenize(TEXTS), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), rtol=1e-5, atol=1e-5)
    assert ours.pixels.mean == tuple(STATS["mean"]) and ours.pixels.resize == "squash"


def test_a_unimed_checkpoint(open_clip, tmp_path):
    """Native quick_gelu ViT and BERT under text_encoder, as its training wrote them."""
    from open_clip.model import CustomTextCLIP

    text = BERT | dict(hf_model_pretrained=False)
    vision = NATIVE | dict(width=64, head_width=64)
    theirs = shaken(CustomTextCLIP(embed_dim=32, quick_gelu=True, vision_cfg=vision, text_cfg=text))
    weights = {
        "module." + (f"text_encoder.{k[5:]}" if k.startswith("text.") else k): v for k, v in theirs.state_dict().items()
    }
    torch.save(dict(epoch=9, state_dict=weights), tmp_path / "unimed-clip.pt")
    tokenizer_files(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(bert_config()))
    ours = load_clip("", str(tmp_path / "unimed-clip.pt"))
    tokens, image = ours.tokenize(TEXTS), torch.randn(2, 3, 32, 32)
    tokens = tokens[:, :32]
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["clip", "siglip"])
def test_a_transformers_folder(case, tmp_path):
    """Heads 80 wide, two activations, and pixel statistics of their own."""
    transformers = pytest.importorskip("transformers")
    size = dict(hidden_size=160, intermediate_size=200, num_hidden_layers=2, num_attention_heads=2)
    vision = size | dict(image_size=32, patch_size=16)
    if case == "clip":
        text = size | dict(vocab_size=49408, max_position_embeddings=77, eos_token_id=49407)
        config = transformers.CLIPConfig(
            text_config=text | dict(hidden_act="quick_gelu"), vision_config=vision | dict(hidden_act="gelu"),
            projection_dim=48,
        )  # fmt: skip
        theirs = shaken(transformers.CLIPModel(config))
    else:
        from foreign import siglip_folder

        siglip_folder(tmp_path)  # for its tokenizer
        text = size | dict(vocab_size=200, max_position_embeddings=16)
        theirs = shaken(transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)))
    theirs.save_pretrained(tmp_path)
    said = dict(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], resample=2, size=dict(height=32, width=32))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    ours = load_clip(f"hf:{tmp_path}")
    tokens, image = ours.tokenize(TEXTS), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        said = theirs(input_ids=tokens, pixel_values=image)
        pairs = (ours.encode_image(image), said.image_embeds), (ours.encode_text(tokens), said.text_embeds)
        for mine, their in pairs:
            torch.testing.assert_close(torch.nn.functional.normalize(mine, dim=-1), their, rtol=1e-5, atol=1e-5)
    assert ours.pixels.mean == (0.1, 0.2, 0.3) and ours.pixels.interpolation == "bilinear"
    assert ours.pixels.resize == "squash" and ours.pixels.size == 32
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(resample=1)))
    with pytest.raises(UserError, match="resample 1 is not supported; 0, 2, 3 are"):
        load_clip(f"hf:{tmp_path}")


def test_an_interpolation_is_open_clips_own_or_refused():
    said = {"model_cfg": {}, "preprocess_cfg": {"interpolation": "random"}}
    assert openclip.pixels(said).interpolation == "bicubic"  # as open_clip tests with it
    said["preprocess_cfg"]["interpolation"] = "lanczos"
    with pytest.raises(UserError, match="interpolation lanczos is not supported"):
        openclip.pixels(said)
