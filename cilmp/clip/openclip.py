"""Folders that open_clip writes: open_clip_config.json decides what the towers are, and refuses what they are not.

https://github.com/mlfoundations/open_clip; UniMed-CLIP's training checkpoints, which have no config, are read as what
they are (https://github.com/mbzuai-oryx/UniMed-CLIP).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cilmp.clip import names, tokenizers, weights
from cilmp.clip.block import Style
from cilmp.clip.build import assemble
from cilmp.clip.model import CLIP, Pixels
from cilmp.clip.tokenizers import BytePairs, Tokenizer
from cilmp.errors import UserError

CONFIG = "open_clip_config.json"
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
BPE = 49408  # OpenAI's vocabulary
HEADS = dict(tiny=3, small=6, base=12, large=16, huge=16, giant=16, gigantic=16)  # of timm's ViTs
BERT_HEADS = {768: 12, 1024: 16}  # BERT base and large
# Keys of the config that may be set: they are heeded, told by the tensors' shapes, or of training alone.
SIZES = {"width", "layers", "mlp_ratio", "patch_size", "embed_dim", "vocab_size", "patch_dropout", "pos_embed_type"}
KNOWN = {
    "model_cfg": {"embed_dim", "quick_gelu", "custom_text", "init_logit_bias", "init_logit_scale", "vision_cfg",
                  "text_cfg", "output_dict", "cast_dtype", "nonscalar_logit_scale", "description"},
    "vision_cfg": SIZES | {"image_size", "head_width", "ls_init_value", "no_ln_pre", "pool_type", "norm_kwargs",
                           "final_ln_after_pool", "act_kwargs", "output_tokens", "timm_model_name", "timm_pool",
                           "timm_model_pretrained", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"},
    "text_cfg": SIZES | {"context_length", "heads", "ls_init_value", "no_causal_mask", "pool_type", "proj_bias",
                         "pad_id", "norm_kwargs", "act_kwargs", "final_ln_after_pool", "output_tokens", "proj_type",
                         "hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs", "hf_model_pretrained",
                         "hf_proj_type", "proj", "hf_pooler_type", "pooler_type"},
}  # fmt: skip
INTERPOLATIONS = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}  # random in training alone


def config(folder: Path) -> dict:
    """UserError where it is no open_clip config, or one of something that is not supported."""
    found = weights.json_file(folder / CONFIG)
    model = found.get("model_cfg")
    if not isinstance(model, dict):
        raise UserError(f"{folder / CONFIG} has no 'model_cfg': it is not a config of open_clip.")
    require_known(model, str(folder / CONFIG))
    return found


def require_known(model: dict, where: str) -> None:
    if model.get("multimodal_cfg"):
        raise UserError(f"{where} describes a CoCa (multimodal_cfg), which is not supported: use a CLIP.")
    for part, known in KNOWN.items():
        node = model if part == "model_cfg" else model.get(part) or {}
        for key in sorted(key for key, value in node.items() if value and key not in known):
            raise UserError(f"{where} sets {part}.{key} to {node[key]!r}, which is not supported.")


def pixels(said: Mapping[str, Any]) -> Pixels:
    """Of an open_clip config; what it leaves out is OpenAI's."""
    size = said["model_cfg"].get("vision_cfg", {}).get("image_size", 224)
    if not isinstance(size, int):
        raise UserError(f"An image tower of {size} pixels does not read square images: it is not supported.")
    given = said.get("preprocess_cfg") or {}
    resize = given.get("resize_mode", "shortest")
    if resize not in ("shortest", "squash"):
        raise UserError(f"preprocess_cfg.resize_mode {resize} is not supported; shortest and squash are.")
    named = given.get("interpolation") or "bicubic"
    if named not in INTERPOLATIONS:
        raise UserError(f"preprocess_cfg.interpolation {named} is not supported; {', '.join(INTERPOLATIONS)} are.")
    stats = {key: tuple(given[key]) for key in ("mean", "std") if given.get(key)}
    return Pixels(**stats, interpolation=INTERPOLATIONS[named], resize=resize, size=size)


def load(folder: Path, file: Path | None = None) -> CLIP:
    """file: of weights, where it is not the folder's first of FILES."""
    said = config(folder)
    found = weights.read(file or weights.first(folder, FILES))
    text = said["model_cfg"].get("text_cfg") or {}
    context = text.get("context_length", 77)
    named = text.get("hf_tokenizer_name") or text.get("hf_model_name") or text.get("vocab_size", BPE) != BPE
    tokenizer: Tokenizer = BytePairs(context)
    if named:
        tokenizer = tokenizers.of_folder(folder, context, (text.get("tokenizer_kwargs") or {}).get("clean", ""))
    beside = folder / "config.json"
    return from_config(found, said, tokenizer, weights.json_file(beside) if beside.is_file() else {})


def from_config(
    found: Mapping[str, Tensor], said: Mapping[str, Any], tokenizer: Tokenizer, bert: Mapping[str, Any] | None = None
) -> CLIP:
    """A state dict of open_clip's and its config; bert: BERT's own config, where there is one."""
    model = said["model_cfg"]
    require_known(model, "The config")
    vision, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    named = {k: v for k, v in found.items() if not k.startswith(("visual.", "text.")) and k != "attn_mask"}
    if vision.get("timm_model_name"):
        named, image = named | names.timm(found), timm(vision, late="visual.trunk.fc_norm.weight" in found)
    else:
        named, image = named | {k: v for k, v in found.items() if k.startswith("visual.")}, native(vision, activation)
    if text.get("hf_model_name"):
        named |= names.bert(names.below(found, "text.transformer."), text.get("context_length", 77))
        named |= names.renamed(names.below(found, "text.proj."), [], "text_projection.")
        words = bert_text(text, bert or {}, named["token_embedding.weight"].shape[1])
    else:
        named |= {k: v for k, v in names.below(found, "text.").items() if k != "attn_mask"}
        words = native_text(text, activation)
    clip = assemble(named, image, words, tokenizer, pixels(said))
    for name, has, states in (
        ("vision_cfg.image_size", clip.resolution, vision.get("image_size", 224)),
        ("embed_dim", clip.embed, model.get("embed_dim")),
        ("text_cfg.context_length", clip.context, text.get("context_length", 77)),
    ):
        if states is not None and has != states:
            raise UserError(f"The config says {name} {states} and the weights have {has}: they are of two models.")
    return clip


def style(part: Mapping[str, Any], activation: str) -> Style:
    """Of a native tower."""
    approximate = (part.get("act_kwargs") or {}).get("approximate", "none")
    if approximate == "tanh" and activation == "gelu":
        activation = "gelu_tanh"
    eps = (part.get("norm_kwargs") or {}).get("eps", 1e-5)
    return Style(activation, eps, scaled=part.get("ls_init_value") is not None)


def native(vision: Mapping[str, Any], activation: str) -> dict[str, Any]:
    if isinstance(vision.get("layers"), list):
        return {}
    pool = {"tok": "cls", "avg": "mean"}.get(vision.get("pool_type", "tok"))
    if pool is None:
        raise UserError(f"vision_cfg.pool_type {vision['pool_type']} is not supported; tok and avg are.")
    width, one = vision.get("width", 768), vision.get("head_width", 64)
    late = bool(vision.get("final_ln_after_pool")) and pool == "mean"
    return dict(
        heads=width // one, style=style(vision, activation), pool=pool, late=late, pre=not vision.get("no_ln_pre")
    )


def timm(vision: Mapping[str, Any], late: bool) -> dict[str, Any]:
    """late: is the last LayerNorm behind the mean?"""
    name = str(vision["timm_model_name"])
    match = re.fullmatch(r"vit_([a-z]+)_patch\d+(_clip)?(_quickgelu)?_\d+", name)
    pool = {"": "cls", "token": "cls", "tok": "cls", "avg": "mean"}.get(vision.get("timm_pool", "avg") or "")
    head = {"linear": "linear" if vision.get("timm_proj_bias") else "plain", "": "none", "none": "none"}.get(
        vision.get("timm_proj", "linear") or ""
    )
    if not match:
        raise UserError(f"The image tower {name} is not supported; of timm's, plain ViTs (vit_base_patch16_224) are.")
    if pool is None or head is None:
        key = "timm_proj" if pool else "timm_pool"
        raise UserError(f"vision_cfg.{key} {vision[key]} is not supported.")
    heads = vision["width"] // vision["head_width"] if {"width", "head_width"} <= vision.keys() else HEADS.get(match[1])
    if heads is None:
        raise UserError(
            f"How many attention heads the image tower {name} has is not known here: state width and head_width in "
            "vision_cfg."
        )
    clip, quick = bool(match[2]), bool(match[3])
    kind = Style("quick_gelu" if quick else "gelu", 1e-5 if clip else 1e-6)
    return dict(heads=heads, style=kind, pool=pool, late=late, pre=clip, bias=not clip, head=head)


def native_text(text: Mapping[str, Any], activation: str) -> dict[str, Any]:
    reads = {"argmax": "eot", "last": "last", "first": "first"}.get(text.get("pool_type", "argmax"))
    if reads is None:
        raise UserError(f"text_cfg.pool_type {text['pool_type']} is not supported; argmax, last and first are.")
    if text.get("proj_type", "linear") not in ("linear", None):
        raise UserError(f"text_cfg.proj_type {text['proj_type']} is not supported.")
    causal = not text.get("no_causal_mask")
    return dict(
        heads=text.get("heads", 8),
        style=style(text, activation),
        causal=causal,
        padded=not causal or reads == "last",
        reads=reads,
        head="linear" if text.get("proj_bias") else "matrix",
    )


def bert_text(text: Mapping[str, Any], said: Mapping[str, Any], width: int) -> dict[str, Any]:
    """said: BERT's own config, which may be absent: base and large are known by their width."""
    name = str(text["hf_model_name"])
    pooler = text.get("hf_pooler_type", text.get("pooler_type", "mean_pooler"))
    head = {"mlp": "mlp", "linear": "plain", "": "none"}.get(text.get("hf_proj_type", text.get("proj", "mlp")) or "")
    if not re.search(r"bert", name, re.I) or re.search(r"roberta|modernbert", name, re.I):
        raise UserError(f"The text tower {name} is not supported; of Hugging Face's, BERTs are.")
    if said and said.get("model_type", "bert") != "bert":
        said = {}  # of the whole model, in another library's words
    if pooler != "cls_last_hidden_state_pooler":
        raise UserError(f"text_cfg.hf_pooler_type {pooler} is not supported; cls_last_hidden_state_pooler is.")
    if head is None:
        raise UserError(f"text_cfg.hf_proj_type {text.get('hf_proj_type', text.get('proj'))} is not supported.")
    heads = said.get("num_attention_heads", BERT_HEADS.get(width))
    if heads is None:
        raise UserError(
            f"How many attention heads the text tower {name} of width {width} has is not known here: put BERT's own "
            "config.json into the folder."
        )
    activation = {"gelu": "gelu", "gelu_new": "gelu_tanh"}.get(said.get("hidden_act", "gelu"))
    if activation is None:
        raise UserError(f"BERT's hidden_act {said['hidden_act']} is not supported.")
    kind = Style(activation, said.get("layer_norm_eps", 1e-12), post_norm=True)
    return dict(heads=heads, style=kind, causal=False, reads="first", pre=True, final=False, head=head)


def is_unimed(found: Mapping[str, Tensor]) -> bool:
    return "text_encoder.transformer.embeddings.word_embeddings.weight" in found


def unimed(found: Mapping[str, Tensor], folder: Path, context: int = 256) -> CLIP:
    """A training checkpoint of UniMed-CLIP; BERT's tokenizer lies beside it."""
    named = {k: v for k, v in found.items() if not k.startswith("text_encoder.")}
    named |= names.bert(names.below(found, "text_encoder.transformer."), context)
    named |= names.renamed(names.below(found, "text_encoder.proj."), [], "text_projection.")
    width = named["token_embedding.weight"].shape[1]
    said = weights.json_file(folder / "config.json") if (folder / "config.json").is_file() else {}
    words = bert_text(
        dict(hf_model_name="BERT", hf_proj_type="mlp", hf_pooler_type="cls_last_hidden_state_pooler"), said, width
    )
    image = dict(heads=0, style=Style("quick_gelu"))
    return assemble(named, image, words, tokenizers.of_folder(folder, context))
