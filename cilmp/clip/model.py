"""A frozen CLIP: two towers, a tokenizer, pixel statistics, and the similarity of what the towers return.

Axes: B images, C classes, D width, E joint embedding, R pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import Attention
from cilmp.clip.segments import Segment
from cilmp.clip.tokenizers import BytePairs, Tokenizer, padded
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.errors import UserError

DTYPES = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TEXT = ("transformer.", "positional_embedding", "ln_final.", "text_projection")  # top level in OpenAI's files


@dataclass(frozen=True)
class Pixels:
    """Of the images a backbone was trained on, channels red, green, blue in 0 to 1."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


class CLIP(nn.Module):
    """`visual` is an ImageTower or a ResNet of the `clip` package."""

    def __init__(
        self,
        visual: nn.Module,
        text: TextTower,
        vocabulary: int,
        tokenizer: Tokenizer | None = None,
        pixels: Pixels | None = None,
    ):
        super().__init__()
        self.visual, self.text = visual, text
        self.token_embedding = nn.Embedding(vocabulary, text.width)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.tokenizer, self.pixels = tokenizer or BytePairs(len(text.positional_embedding)), pixels or Pixels()

    @property
    def dtype(self) -> torch.dtype:
        return self.text.text_projection.dtype

    @property
    def context(self) -> int:
        """Positions the text tower reads."""
        return len(self.text.positional_embedding)

    @property
    def resolution(self) -> int:
        """Pixels a side."""
        return self.visual.input_resolution  # type: ignore[return-value]

    @property
    def embed(self) -> int:
        """Width E of the joint embedding."""
        return self.text.text_projection.shape[1]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (C, context) on the model's device, zeros behind EOS."""
        ids = [self.tokenizer.encode(text) for text in texts]
        return padded(ids, self.context).to(self.token_embedding.weight.device)

    def encode_image(self, image: Tensor, prompts: Sequence[Tensor] = (), literal: bool = False) -> Tensor:
        """(B, 3, R, R) -> (B, E).  UserError for prompts where the image tower is no transformer."""
        if isinstance(self.visual, ImageTower):
            return self.visual(image, prompts, literal)
        if prompts:
            raise UserError("This trainer writes prompts into the image tower: it needs a ViT CLIP, not a ResNet.")
        return self.visual(image.to(self.dtype))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (C, n) -> (C, E).  Exact: under a causal mask nothing behind EOS is seen."""
        eot = tokens.argmax(-1)  # EOS has the largest id
        n = int(eot.max()) + 1
        x = self.token_embedding(tokens[:, :n]) + self.text.positional_embedding[:n]
        return self.text([Segment(x.to(self.dtype)[None])], eot)[0]

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """image (B, E), text (C, E), (1, C, E) or (B, C, E) -> exp(scale) * cosine, (B, C)."""
        exact = self.logit_scale.dtype  # a norm overflows half precision
        image, text = F.normalize(image.to(exact), dim=-1), F.normalize(text.to(exact), dim=-1)
        if text.dim() == 3 and len(text) == 1:
            text = text[0]
        scores = image @ text.T if text.dim() == 2 else torch.einsum("be,bce->bc", image, text)
        return self.logit_scale.exp() * scores

    def openai_state_dict(self) -> dict[str, Tensor]:
        """The weights under OpenAI's names."""
        return {key.removeprefix("text."): value for key, value in self.state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, weights: dict[str, Tensor], heads: tuple[int, int] | None = None, activation: str = "quick_gelu"
    ) -> CLIP:
        """From OpenAI's names, shapes telling the architecture; heads (image, text) default to width // 64.

        A reduced embedding, `token_embedding.ids` (N,) and `.rows` (N, D), is spread over the vocabulary; a token it
        does not know gets a random row of the same size that depends on the token alone.
        UserError where the weights are not a CLIP's.
        """
        weights = {k: v for k, v in weights.items() if k not in ("input_resolution", "context_length", "vocab_size")}
        weights = _full_embedding(weights)
        try:
            return cls._build(weights, heads, activation)
        except KeyError as error:
            raise UserError(f"Not the weights of a CLIP: {error} is missing from the state dict.") from None
        except (ValueError, IndexError):  # a tensor of other axes than the architecture is read from
            raise UserError("Not the weights of a CLIP: its tensors have other axes.") from None

    @classmethod
    def _build(cls, weights: dict[str, Tensor], heads: tuple[int, int] | None, activation: str) -> CLIP:
        context, width = weights["positional_embedding"].shape
        embed = weights["text_projection"].shape[1]
        image_heads, text_heads = heads or (0, max(1, width // 64))
        text = TextTower(width, _layers(weights, "transformer.resblocks."), text_heads, context, embed, activation)
        visual: nn.Module
        if "visual.proj" in weights:
            vision, _, patch, _ = weights["visual.conv1.weight"].shape
            side = round((len(weights["visual.positional_embedding"]) - 1) ** 0.5)
            layers = _layers(weights, "visual.transformer.resblocks.")
            image_heads = image_heads or max(1, vision // 64)
            visual = ImageTower(side * patch, patch, vision, layers, image_heads, embed, activation)
        else:
            visual = _resnet(weights, embed)
        model = cls(visual, text, len(weights["token_embedding.weight"]))
        named = {"text." + k if k.startswith(TEXT) else k: v.float() for k, v in weights.items()}
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        missing, extra = sorted(shapes.keys() - named), sorted(named.keys() - shapes)
        if missing or extra:
            raise UserError(f"Not the weights of a CLIP: missing {missing[:3]}, unknown {extra[:3]}.")
        for key, value in named.items():
            if tuple(value.shape) != shapes[key]:
                raise UserError(f"Not the weights of a CLIP: '{key}' is {tuple(value.shape)}, not {shapes[key]}.")
        model.load_state_dict(named)
        return model.eval().requires_grad_(False)

    def cast(self, precision: str) -> CLIP:
        """Half precisions as OpenAI's: matrices are cast, LayerNorms, embeddings and the scale stay fp32."""
        if precision not in DTYPES:
            raise UserError(f"PREC is '{precision}'; choose one of {', '.join(DTYPES)}.")
        dtype = DTYPES[precision]
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(dtype)
            elif isinstance(module, Attention):
                for parameter in (module.in_proj_weight, module.in_proj_bias):
                    parameter.data = parameter.data.to(dtype)
            for name in ("text_projection", "proj"):
                matrix = getattr(module, name, None)
                if isinstance(matrix, nn.Parameter):
                    matrix.data = matrix.data.to(dtype)
        return self


def _layers(weights: dict[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})


def _resnet(weights: dict[str, Tensor], embed: int) -> nn.Module:
    from clip.model import ModifiedResNet

    width = weights["visual.layer1.0.conv1.weight"].shape[0]
    side = round((len(weights["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    layers = tuple(_layers(weights, f"visual.layer{i}.") for i in (1, 2, 3, 4))
    resnet = ModifiedResNet(layers, embed, width * 32 // 64, side * 32, width)
    return resnet.to(memory_format=torch.channels_last)  # the same numbers faster: benchmarks/resnet.py


def _full_embedding(weights: dict[str, Tensor], vocabulary: int = 49408) -> dict[str, Tensor]:
    if "token_embedding.ids" not in weights:
        return weights
    weights = dict(weights)
    ids, rows = weights.pop("token_embedding.ids"), weights.pop("token_embedding.rows").float()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(vocabulary, rows.shape[1], generator=generator) * rows.std()
    table[ids] = rows
    return weights | {"token_embedding.weight": table}
