"""The embedded toys: `tiny`, OpenAI's architecture, and `tiny-bert`, BiomedCLIP's; scripts/pretrain_tiny.py makes both.

Half-precision weights; the activation, or the vocabulary of BERT's word pieces, is in the file's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cilmp.clip import build, tokenizers, weights
from cilmp.clip.block import Style
from cilmp.clip.model import CLIP

ASSETS = Path(__file__).parents[1] / "assets"
TINY, TINY_BERT = ASSETS / "tiny.safetensors", ASSETS / "tiny_bert.safetensors"
SIZE, CONTEXT = 64, 256  # pixels a side; tokens, as BiomedCLIP: words it does not know become letters
# BiomedCLIP's towers: timm's ViT, and BERT read at [CLS]
IMAGE: dict[str, Any] = dict(heads=2, style=Style("gelu", 1e-6), pre=False, bias=True, head="plain")
TEXT: dict[str, Any] = dict(
    heads=2, style=Style("gelu", 1e-12, post_norm=True), causal=False, reads="first", pre=True, final=False, head="mlp"
)


def bert() -> CLIP:
    from safetensors import safe_open

    with safe_open(TINY_BERT, "pt") as file:
        vocabulary = json.loads(file.metadata()["vocabulary"])
    return build.assemble(weights.read(TINY_BERT), IMAGE, TEXT, tokenizers.word_pieces(vocabulary, CONTEXT))
