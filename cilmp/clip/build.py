"""Weights under OpenAI's names, and what their shapes do not tell -> a frozen CLIP.

Sizes are read from the tensors; heads, activations and the rest are the caller's to state.  Every tensor must be used
and every parameter filled, so that nothing is left random and nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cilmp.clip.block import Style
from cilmp.clip.model import CLIP, Pixels
from cilmp.clip.tokenizers import Tokenizer
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.errors import UserError

TEXT = (
    "transformer.",
    "positional_embedding",
    "ln_pre.",
    "ln_final.",
    "text_projection",
)  # top level in OpenAI's files
NOTES = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives


def openai(
    weights: Mapping[str, Tensor],
    heads: tuple[int, int] = (0, 0),
    activation: str = "quick_gelu",
    tokenizer: Tokenizer | None = None,
    pixels: Pixels | None = None,
) -> CLIP:
    """OpenAI's architecture.  heads: of image and text tower; 0 is width // 64."""
    style = Style(activation)
    return assemble(weights, dict(heads=heads[0], style=style), dict(heads=heads[1], style=style), tokenizer, pixels)


def assemble(
    weights: Mapping[str, Tensor],
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    tokenizer: Tokenizer | None = None,
    pixels: Pixels | None = None,
) -> CLIP:
    """image, text: arguments of the towers that are no sizes; heads 0 is width // 64.

    A reduced embedding, `token_embedding.ids` (N,) and `.rows` (N, D), is spread over the vocabulary; a token it
    does not know gets a random row of the same size that depends on the token alone.
    UserError where the weights are not a CLIP's of this architecture.
    """
    weights = full_embedding({k: v for k, v in weights.items() if k not in NOTES})
    try:
        return _assemble(weights, dict(image), dict(text), tokenizer, pixels)
    except KeyError as error:
        raise UserError(f"Not the weights of a CLIP: {error} is missing from the state dict.") from None
    except (ValueError, IndexError):  # a tensor of other axes than the architecture is read from
        raise UserError("Not the weights of a CLIP: its tensors have other axes.") from None


def _assemble(weights: dict[str, Tensor], image: dict, text: dict, tokenizer, pixels) -> CLIP:
    named = {"text." + k if k.startswith(TEXT) else k: v.float() for k, v in weights.items()}
    context, width = named["text.positional_embedding"].shape
    embed = embedded(named, "text.text_projection", text)
    text_tower = TextTower(width, embed=embed, context=context, **told(named, "text.transformer.", width, text))
    visual = image_tower(named, image) if "visual.conv1.weight" in named and not is_resnet(named) else None
    model = CLIP(
        visual or resnet(named, embed), text_tower, len(named["token_embedding.weight"]), tokenizer, pixels,
        biased="logit_bias" in named,
    )  # fmt: skip
    for key in ("logit_scale", "logit_bias"):  # SigLIP's have one axis
        if key in named and named[key].numel() == 1:
            named[key] = named[key].reshape(())
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing, extra = sorted(shapes.keys() - named), sorted(named.keys() - shapes)
    if missing or extra:
        raise UserError(f"Not the weights of a CLIP: missing {missing[:3]}, unknown {extra[:3]}.")
    for key, value in named.items():
        if tuple(value.shape) != shapes[key]:
            raise UserError(f"Not the weights of a CLIP: '{key}' is {tuple(value.shape)}, not {shapes[key]}.")
    model.load_state_dict(named)
    return model.eval().requires_grad_(False)


def told(weights: Mapping[str, Tensor], prefix: str, width: int, arguments: dict) -> dict:
    """A tower's arguments with its layers, heads and the width of its MLP."""
    blocks = f"{prefix}resblocks."
    mlp = weights[f"{blocks}0.mlp.c_fc.weight"].shape[0]
    style = Style(**{**vars(arguments["style"]), "mlp": mlp})
    heads = arguments["heads"] or max(1, width // 64)
    if width % heads:
        raise UserError(f"A tower of width {width} cannot have {heads} attention heads: check its config.")
    return arguments | dict(heads=heads, layers=layers(weights, blocks), style=style)


def image_tower(weights: Mapping[str, Tensor], arguments: dict) -> ImageTower:
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    patches = len(weights["visual.positional_embedding"]) - arguments.get("cls", True)
    side = round(patches**0.5)
    if side * side != patches:
        raise UserError(f"An image tower of {patches} patches does not read square images: it is not supported.")
    embed = embedded(weights, "visual.proj", arguments)
    rest = told(weights, "visual.transformer.", width, arguments)
    return ImageTower(side * patch, patch, width, embed=embed, **rest)


def embedded(weights: Mapping[str, Tensor], key: str, arguments: dict) -> int:
    """E, of a tower's head."""
    head = arguments.get("head", "matrix")
    if head == "matrix":
        return weights[key].shape[1]
    if head == "none":
        return weights["visual.positional_embedding" if key == "visual.proj" else "text.positional_embedding"].shape[1]
    return weights[f"{key}.2.weight" if head == "mlp" else f"{key}.weight"].shape[0]


def layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})


def is_resnet(weights: Mapping[str, Tensor]) -> bool:
    return "visual.layer1.0.conv1.weight" in weights


def resnet(weights: Mapping[str, Tensor], embed: int) -> nn.Module:
    from clip.model import ModifiedResNet

    width = weights["visual.layer1.0.conv1.weight"].shape[0]
    side = round((len(weights["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    blocks = tuple(layers(weights, f"visual.layer{i}.") for i in (1, 2, 3, 4))
    tower = ModifiedResNet(blocks, embed, width * 32 // 64, side * 32, width)
    return tower.to(memory_format=torch.channels_last)  # the same numbers faster: benchmarks/resnet.py


def full_embedding(weights: dict[str, Tensor], vocabulary: int = 49408) -> dict[str, Tensor]:
    if "token_embedding.ids" not in weights:
        return weights
    weights = dict(weights)
    ids, rows = weights.pop("token_embedding.ids"), weights.pop("token_embedding.rows").float()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(vocabulary, rows.shape[1], generator=generator) * rows.std()
    table[ids] = rows
    return weights | {"token_embedding.weight": table}
