"""A frozen CLIP: two towers, a tokenizer, pixel statistics, and the similarity of what the towers return.

Axes: B images, C classes, D width, E joint embedding, R pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import Attention, LayerNorm
from cilmp.clip.segments import Segment
from cilmp.clip.tokenizers import BytePairs, Tokenizer, padded
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.errors import UserError

DTYPES = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Pixels:
    """How images become what a backbone was trained on, channels red, green, blue in 0 to 1."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize: str = "shortest"  # side, then a crop of the centre; or "squash": both sides
    size: int = 0  # a side; 0: what the image tower reads


class CLIP(nn.Module):
    """`visual` is an ImageTower or a ResNet of the `clip` package.  biased: is a number added to the logits?"""

    def __init__(
        self,
        visual: nn.Module,
        text: TextTower,
        vocabulary: int,
        tokenizer: Tokenizer | None = None,
        pixels: Pixels | None = None,
        biased: bool = False,
    ):
        super().__init__()
        self.visual, self.text = visual, text
        self.token_embedding = nn.Embedding(vocabulary, text.width)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.logit_bias = nn.Parameter(torch.zeros(())) if biased else None
        self.tokenizer, self.pixels = tokenizer or BytePairs(len(text.positional_embedding)), pixels or Pixels()

    @property
    def dtype(self) -> torch.dtype:
        return self.text.dtype

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
        return self.text.embed

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (C, context) on the model's device, pads behind."""
        ids = [self.tokenizer.encode(text) for text in texts]
        return padded(ids, self.context, self.tokenizer.pad).to(self.token_embedding.weight.device)

    def encode_image(self, image: Tensor, prompts: Sequence[Tensor] = (), literal: bool = False) -> Tensor:
        """(B, 3, R, R) -> (B, E).  UserError for prompts where the image tower is no transformer, and for bytes."""
        if not image.is_floating_point():
            raise UserError(f"Images of {image.dtype} are no numbers yet: a trainer's parse_batch_test makes them.")
        if isinstance(self.visual, ImageTower):
            return self.visual(image, prompts, literal)
        if prompts:
            raise UserError("This trainer writes prompts into the image tower: it needs a ViT CLIP, not a ResNet.")
        return self.visual(image.to(self.dtype))

    def read_at(self, tokens: Tensor) -> Tensor:
        """Which token of each text (C, n) is read, (C,)."""
        return {
            "eot": tokens.argmax(-1),  # EOS has the largest id
            "last": torch.full_like(tokens[:, 0], self.context - 1),
            "first": torch.zeros_like(tokens[:, 0]),
        }[self.text.reads]

    def looked_at(self, tokens: Tensor) -> int:
        """How many tokens of texts (C, n) anything looks at; the host waits for it."""
        if self.text.padded:
            return self.context
        if self.text.causal:
            return int(self.read_at(tokens).max()) + 1
        return int((tokens != self.tokenizer.pad).sum(-1).max())

    def sentences(self, tokens: Tensor, m: int = 0) -> tuple[Segment, Tensor]:
        """Token ids (C, n) -> one segment (1, C, m, D) up to the last token that anything looks at, and the row (C,)
        that is read.  m: `looked_at`, where a training step must not wait for it."""
        text, m = self.text, m or self.looked_at(tokens)
        real = None if text.padded or text.causal else tokens[:, :m] != self.tokenizer.pad
        row = self.read_at(tokens)
        if text.padded:
            tokens = F.pad(tokens, (0, m - tokens.shape[1]), value=self.tokenizer.pad)
        x = self.token_embedding(tokens[:, :m]) + text.positional_embedding[:m]
        return Segment(x.to(self.dtype)[None], real), row

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (C, n) -> (C, E).  Exact: what is cut off, nothing looks at."""
        segment, row = self.sentences(tokens)
        return self.text([segment], row)[0]

    def text_layers(self, tokens: Tensor) -> Tensor:
        """Token ids (C, n) -> (layers, C, D): the residual stream behind every block at the token that is read."""
        segment, row = self.sentences(tokens)
        x, after = self.text.enter(segment.dense()[0]), []
        for block in self.text.transformer.blocks:
            x = block(x, causal=self.text.causal, real=segment.mask)
            after.append(x[torch.arange(len(x), device=x.device), row])
        return torch.stack(after)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """image (B, E), text (C, E), (1, C, E) or (B, C, E) -> exp(scale) * cosine (+ bias), (B, C)."""
        exact = self.logit_scale.dtype  # a norm overflows half precision
        image, text = F.normalize(image.to(exact), dim=-1), F.normalize(text.to(exact), dim=-1)
        if text.dim() == 3 and len(text) == 1:
            text = text[0]
        scores = image @ text.T if text.dim() == 2 else torch.einsum("be,bce->bc", image, text)
        scores = self.logit_scale.exp() * scores
        return scores if self.logit_bias is None else scores + self.logit_bias

    def openai_state_dict(self) -> dict[str, Tensor]:
        """The weights under OpenAI's names."""
        return {key.removeprefix("text."): value for key, value in self.state_dict().items()}

    def cast(self, precision: str) -> CLIP:
        """Half precisions as OpenAI's: embeddings and the scale stay fp32.

        But LayerNorms are cast as matrices are: with fp32 weights, as OpenAI's, a GPU converts every token twice.
        """
        if precision not in DTYPES:
            raise UserError(f"PREC is '{precision}'; choose one of {', '.join(DTYPES)}.")
        dtype = DTYPES[precision]
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | LayerNorm):
                module.to(dtype)
            elif isinstance(module, Attention):
                for parameter in (module.in_proj_weight, module.in_proj_bias):
                    parameter.data = parameter.data.to(dtype)
            for name in ("text_projection", "proj"):
                matrix = getattr(module, name, None)
                if isinstance(matrix, nn.Parameter):
                    matrix.data = matrix.data.to(dtype)
        return self
