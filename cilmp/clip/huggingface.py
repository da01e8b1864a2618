"""Folders that transformers writes: CLIPModel and SiglipModel, read without the library building a model.

`from_pretrained` fills what a foreign checkpoint lacks with random numbers and goes on; here every tensor is accounted
for (build.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cilmp.clip import names, tokenizers, weights
from cilmp.clip.block import Style
from cilmp.clip.build import assemble
from cilmp.clip.model import CLIP, Pixels
from cilmp.clip.tokenizers import BytePairs, Tokenizer
from cilmp.errors import UserError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel"}  # model_type: the class whose weights are read
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
BPE = 49408  # OpenAI's vocabulary
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


def config(folder: Path) -> Any:
    """The library's config, its defaults filled in.  UserError where it is neither CLIP's nor SigLIP's."""
    import transformers

    said = weights.json_file(folder / CONFIG)
    kind, classes = said.get("model_type"), said.get("architectures") or []
    wrong = [name for name in classes if name not in CLASSES.values()]
    if kind not in CLASSES or wrong:
        what = ", ".join(wrong) or kind
        raise UserError(
            f"{folder / CONFIG} describes {what}, which is not supported here; CLIPModel and SiglipModel are, and with "
            "open_clip: folders that open_clip wrote."
        )
    kinds: dict[str, Any] = {"clip": transformers.CLIPConfig, "siglip": transformers.SiglipConfig}
    return kinds[kind].from_dict(said)


def describes(folder: Path, apart: str) -> bool:
    """Is there a config of the whole model, not one of the part `apart`?"""
    file = folder / CONFIG
    return file.is_file() and (not apart or weights.json_file(file).get("model_type") != apart)


def pixels(folder: Path) -> Pixels:
    """Of preprocessor_config.json; without one, those the library's processors have."""
    said = config(folder)
    siglip, size = said.model_type == "siglip", said.vision_config.image_size
    ours = Pixels(size=size)
    if siglip:
        ours = Pixels((0.5,) * 3, (0.5,) * 3, "bicubic", "squash", size)
    if not (folder / PREPROCESSOR).is_file():
        return ours
    given = weights.json_file(folder / PREPROCESSOR)
    resample = given["resample"] if given.get("resample") is not None else 3
    if resample not in RESAMPLING:
        raise UserError(
            f"{folder / PREPROCESSOR}: resample {resample} is not supported; {', '.join(map(str, RESAMPLING))} are."
        )
    sides = given.get("size") or {}
    squash = siglip if not isinstance(sides, dict) else "height" in sides and not given.get("do_center_crop")
    return Pixels(
        tuple(given.get("image_mean") or ours.mean),
        tuple(given.get("image_std") or ours.std),
        RESAMPLING[resample],
        "squash" if squash else "shortest",
        size,
    )


def load(folder: Path, file: Path | None = None) -> CLIP:
    """file: of weights, where it is not the folder's own."""
    said = config(folder)
    found = weights.read(file) if file else weights.read_shards(folder, FILES)
    vision, text = said.vision_config, said.text_config
    image: dict[str, Any] = dict(heads=vision.num_attention_heads, style=style(vision))
    words: dict[str, Any] = dict(heads=text.num_attention_heads, style=style(text))
    context = text.max_position_embeddings
    if said.model_type == "siglip":
        image |= dict(pool="attention", cls=False, pre=False, bias=True, head="none")
        words |= dict(causal=False, padded=True, reads="last", head="linear")
    tokenizer: Tokenizer = BytePairs(context)
    if said.model_type == "siglip" or text.vocab_size != BPE:
        tokenizer = tokenizers.of_folder(folder, context, "canonicalize" if said.model_type == "siglip" else "")
    clip = assemble(names.transformers(found), image, words, tokenizer, pixels(folder))
    if clip.resolution != vision.image_size:
        raise UserError(
            f"{folder / CONFIG} says image_size {vision.image_size} and the weights have {clip.resolution}: they "
            "are of two models."
        )
    return clip


def style(part: Any) -> Style:
    if part.hidden_act not in ACTIVATIONS:
        raise UserError(f"hidden_act {part.hidden_act} is not supported; {', '.join(ACTIVATIONS)} are.")
    return Style(ACTIVATIONS[part.hidden_act], part.layer_norm_eps)
