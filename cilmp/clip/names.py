"""Other libraries' names of a CLIP's tensors -> OpenAI's: timm's ViT, BERT, transformers' CLIP and SigLIP.

What a tower has beyond OpenAI's is named beside it: ls_1, ls_2, ln_pre of the text tower, visual.pooling, logit_bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Patterns = Sequence[tuple[str, str]]

TIMM: Patterns = [
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^norm_pre\.", "ln_pre."),
    (r"^(fc_)?norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.ls([12])\.", r".ls_\1."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
]

BERT: Patterns = [
    (r"^embeddings\.word_embeddings\.", "token_embedding."),
    (r"^embeddings\.LayerNorm\.", "ln_pre."),
    (r"^encoder\.layer\.", "transformer.resblocks."),
    (r"\.attention\.output\.dense\.", ".attn.out_proj."),
    (r"\.attention\.output\.LayerNorm\.", ".ln_1."),
    (r"\.intermediate\.dense\.", ".mlp.c_fc."),
    (r"(\d)\.output\.dense\.", r"\1.mlp.c_proj."),
    (r"(\d)\.output\.LayerNorm\.", r"\1.ln_2."),
]

TRANSFORMERS: Patterns = [
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # the library's own spelling
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^vision_model\.head\.attention\.", "visual.pooling.attn."),
    (r"^vision_model\.head\.layernorm\.", "visual.pooling.ln."),
    (r"^vision_model\.head\.", "visual.pooling."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.head\.", "text_projection."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
]


def renamed(weights: Mapping[str, Tensor], patterns: Patterns, prefix: str = "") -> dict[str, Tensor]:
    """Every pattern applied in turn, then the prefix put ahead."""
    found = {}
    for key, value in weights.items():
        for pattern, new in patterns:
            key = re.sub(pattern, new, key)
        found[prefix + key] = value.contiguous()
    return found


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def joined(weights: Mapping[str, Tensor], query: str, key: str, value: str, whole: str) -> dict[str, Tensor]:
    """Query, key and value of every attention as one tensor; the three names end in .weight or .bias."""
    found = dict(weights)
    for name in [name for name in weights if f".{query}." in name]:
        parts = [found.pop(name.replace(f".{query}.", f".{part}.")) for part in (query, key, value)]
        found[name.replace(f".{query}.", f".{whole}_")] = torch.cat(parts)
    return found


def timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """visual.trunk.* and visual.head.proj.* -> visual.*"""
    trunk = below(weights, "visual.trunk.")
    if "cls_token" in trunk:
        trunk["cls_token"] = trunk["cls_token"].flatten()
    if "pos_embed" in trunk:
        trunk["pos_embed"] = trunk["pos_embed"][0]
    return renamed(trunk, TIMM, "visual.") | renamed(below(weights, "visual.head."), [], "visual.")


def bert(weights: Mapping[str, Tensor], context: int) -> dict[str, Tensor]:
    """BertModel's -> ours.  The one token type that is used is part of every position; a pooler is nobody's."""
    weights = {k: v for k, v in weights.items() if not k.startswith("pooler.") and not k.endswith("position_ids")}
    places = weights.pop("embeddings.position_embeddings.weight")[:context].float()
    positions = places + weights.pop("embeddings.token_type_embeddings.weight")[0].float()
    whole = joined(weights, "attention.self.query", "attention.self.key", "attention.self.value", "attn.in_proj")
    return renamed(whole, BERT) | {"positional_embedding": positions}


def transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's and SiglipModel's -> ours."""
    weights = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    whole = joined(weights, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "attn.in_proj")
    if "vision_model.head.probe" in whole:
        whole["vision_model.head.probe"] = whole["vision_model.head.probe"].flatten()
    heads = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
    matrices = {ours: whole.pop(theirs).T for ours, theirs in heads.items() if theirs in whole}
    return renamed(whole, TRANSFORMERS) | renamed(matrices, [])
