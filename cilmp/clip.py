"""A frozen CLIP: two towers, the tokenizer, the similarity between what they return, and where weights come from.

Axes: B images, C classes, n tokens, D width, E joint embedding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.attention import Segment
from cilmp.encoders import Attention, ImageTower, TextTower
from cilmp.errors import UserError

DTYPES = {"fp32": torch.float32, "amp": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TEXT = ("transformer.", "positional_embedding", "ln_final.", "text_projection")  # top level in OpenAI's files


class CLIP(nn.Module):
    """`visual` is an ImageTower or a ResNet of the `clip` package, `text` a TextTower."""

    def __init__(self, visual: nn.Module, text: TextTower, vocabulary: int):
        super().__init__()
        self.visual, self.text = visual, text
        self.token_embedding = nn.Embedding(vocabulary, text.width)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def dtype(self) -> torch.dtype:
        return self.text.text_projection.dtype

    @property
    def context(self) -> int:
        return len(self.text.positional_embedding)

    @property
    def resolution(self) -> int:
        return self.visual.input_resolution

    @property
    def embed(self) -> int:
        return self.text.text_projection.shape[1]

    def tokenize(self, texts: Sequence[str], cut: bool = True):
        """Token ids (C, 77) on the model's device; cut=False: a list of ids from SOS to EOS for every text."""
        ids = [encode(text, self.context) for text in texts]
        if not cut:
            return ids
        rows = torch.zeros(len(ids), self.context, dtype=torch.long)
        for row, item in zip(rows, ids, strict=True):
            row[: len(item)] = torch.tensor(item)
        return rows.to(self.token_embedding.weight.device)

    def encode_image(self, image: Tensor, prompts: Sequence[Tensor] = (), literal: bool = False) -> Tensor:
        """(B, 3, R, R) -> (B, E)."""
        if isinstance(self.visual, ImageTower):
            return self.visual(image, prompts, literal)
        if prompts:
            raise UserError("This trainer writes prompts into the image tower: it needs a ViT CLIP, not a ResNet.")
        return self.visual(image.to(self.dtype))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (C, 77) -> (C, E).  Exact: under a causal mask nothing behind EOS is seen."""
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
    def from_state_dict(cls, weights: dict[str, Tensor], heads: tuple[int, int] | None = None, gelu="quick_gelu"):
        """From OpenAI's names, shapes telling the architecture; heads (image, text) default to width // 64.

        A reduced embedding, `token_embedding.ids` (N,) and `.rows` (N, D), is spread over the vocabulary; a token it
        does not know gets a random row of the same size that depends on the token alone.
        """
        weights = {k: v for k, v in weights.items() if k not in ("input_resolution", "context_length", "vocab_size")}
        weights = _full_embedding(weights)
        try:
            return cls._build(weights, heads, gelu)
        except KeyError as error:
            raise UserError(f"Not the weights of a CLIP: {error} is missing from the state dict.") from None

    @classmethod
    def _build(cls, weights: dict[str, Tensor], heads, gelu: str) -> CLIP:
        context, width = weights["positional_embedding"].shape
        embed = weights["text_projection"].shape[1]
        image_heads, text_heads = heads or (None, max(1, width // 64))
        text = TextTower(width, _layers(weights, "transformer.resblocks."), text_heads, context, embed, gelu)
        if "visual.proj" in weights:
            vision, _, patch, _ = weights["visual.conv1.weight"].shape
            side = round((len(weights["visual.positional_embedding"]) - 1) ** 0.5)
            layers = _layers(weights, "visual.transformer.resblocks.")
            visual = ImageTower(side * patch, patch, vision, layers, image_heads or max(1, vision // 64), embed, gelu)
        else:
            visual = _resnet(weights, embed)
        model = cls(visual, text, len(weights["token_embedding.weight"]))
        named = {"text." + k if k.startswith(TEXT) else k: v.float() for k, v in weights.items()}
        missing, extra = model.load_state_dict(named, strict=False)
        if missing or extra:
            raise UserError(f"Not the weights of a CLIP: missing {missing[:3]}, unknown {extra[:3]}.")
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
                parameter = getattr(module, name, None)
                if isinstance(parameter, nn.Parameter):
                    parameter.data = parameter.data.to(dtype)
        return self


def encode(text: str, context: int = 77) -> list[int]:
    """SOS, the byte-pair tokens of OpenAI's tokenizer, EOS."""
    import clip

    try:
        row = clip.tokenize(text, context_length=context)[0]
    except RuntimeError:
        raise UserError(f"'{text}' is longer than the {context} tokens CLIP reads: shorten it.") from None
    return row[: int(row.argmax()) + 1].tolist()


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


def load_clip(name: str, path: str = "", precision: str = "fp32") -> CLIP:
    """A frozen CLIP on the CPU.

    name: one of OpenAI's (downloaded once to ~/.cache/clip), `tiny` (the embedded toy), or `hf:` and a Hugging Face
    CLIPModel's repository or folder.  path: a local file instead, OpenAI's JIT archive, a plain state dict or
    .safetensors.
    """
    from cilmp import weights

    if path:
        model = CLIP.from_state_dict(weights.read(Path(path)))
    elif name.startswith("hf:"):
        model = CLIP.from_state_dict(*weights.hugging_face(name[3:]))
    elif name == "tiny":
        model = CLIP.from_state_dict(weights.read(Path(__file__).parent / "assets" / "tiny.safetensors"))
    else:
        model = CLIP.from_state_dict(weights.read(weights.openai(name, Path(os.path.expanduser("~/.cache/clip")))))
    return model.cast(precision)
