"""Where CLIP's weights come from: files, OpenAI's list, Hugging Face; all become OpenAI's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cilmp.clip import archive
from cilmp.errors import UserError, nearest


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, OpenAI's TorchScript archive or a plain torch file; nothing in it runs.

    UserError where the file is absent, damaged, holds anything but tensors, or numbers that are not finite.
    """
    if not path.is_file():
        raise UserError(f"No backbone weights at {path}: check MODEL.BACKBONE.PATH.")
    try:
        weights = load(path)
    except Exception as error:  # a damaged or foreign file fails in many ways
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"Cannot read backbone weights from {path}: {first[:200]}") from None
    if not isinstance(weights, Mapping) or not weights:
        raise UserError(f"{path} holds {type(weights).__name__}, not a state dict: check MODEL.BACKBONE.PATH.")
    weights = weights.get("state_dict", weights)
    for key, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path} holds a {type(value).__name__} as '{key}', not a tensor: it is no state dict.")
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"'{key}' in {path} is not finite: the file is damaged; fetch it again.")
    return dict(weights)


def load(path: Path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if archive.is_archive(path):
        return archive.state_dict(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def openai(name: str, cache: Path) -> Path:
    """The file of one of OpenAI's models, downloaded (and its SHA-256 checked) by the `clip` package if need be."""
    import clip.clip

    if name not in clip.clip._MODELS:
        raise UserError(f"Unknown backbone '{name}'.{nearest(name, [*clip.clip._MODELS, 'tiny', 'hf:<repository>'])}")
    url = clip.clip._MODELS[name]
    file = cache / Path(url).name
    try:
        return Path(clip.clip._download(url, str(cache)))
    except Exception as error:  # the network's many ways to fail
        raise UserError(
            f"Backbone '{name}' is not in {file} and could not be downloaded ({error}): put the file there, "
            "or name a local one with MODEL.BACKBONE.PATH."
        ) from None


def hugging_face(repository: str) -> tuple[dict[str, Tensor], tuple[int, int], str]:
    """(weights under OpenAI's names, heads of image and text tower, activation) of a CLIPModel."""
    import transformers

    try:
        model = transformers.CLIPModel.from_pretrained(repository)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Hugging Face CLIPModel '{repository}' ({str(error).splitlines()[0][:160]}): check the name, or on an "
            "offline machine give the folder of a downloaded copy (hf:/path/to/folder)."
        ) from None
    vision, text = (getattr(model.config, f"{part}_config") for part in ("vision", "text"))
    heads = vision.num_attention_heads, text.num_attention_heads
    return rename_hugging_face(model.state_dict()), heads, text.hidden_act


RENAMES = [
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # the library's own spelling
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
]


def rename_hugging_face(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's names -> OpenAI's: query, key and value joined, projections transposed."""
    renamed = {}
    for key, value in weights.items():
        if key.endswith("position_ids") or re.search(r"\.[kv]_proj\.", key):
            continue
        if match := re.search(r"\.self_attn\.q_proj\.(weight|bias)$", key):
            parts = [weights[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            key, value = key[: match.start()] + f".attn.in_proj_{match[1]}", torch.cat(parts)
        if key == "visual_projection.weight":
            key, value = "visual.proj", value.T
        elif key == "text_projection.weight":
            key, value = "text_projection", value.T
        for pattern, new in RENAMES:
            key = re.sub(pattern, new, key)
        renamed[key] = value.contiguous()
    return renamed
