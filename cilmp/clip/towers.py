"""CLIP's two towers, with prompts written into their layers.

Every method is a choice of writes: before block i the tokens of a prompt are overwritten.  What follows from that
alone makes the towers cheap without changing a number, and so serves every method:
  1. text attention is causal and only EOS is read, so the sequence ends at the last EOS;
  2. tokens that are overwritten before the next block need only keys and values in this one;
  3. a token carries only the axes it depends on (SOS none, a shared context none, a class name the class);
  4. tokens of low rank give keys and values of low rank (lowrank.py); names of different lengths lie end to end
     (packing.py);
  5. the last block computes only the row that is read.

Axes: B images, C classes, n tokens, D width, E joint embedding, H heads, e = D / H.
Parameter names are those of OpenAI's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cilmp.clip.block import Block, LayerNorm
from cilmp.clip.lowrank import LowRank
from cilmp.clip.segments import Segment, causal, read

Writes = Mapping[int, Tensor | LowRank]  # segment -> the tokens that overwrite it


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, activation: str = "quick_gelu"):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))

    @property
    def blocks(self) -> list[Block]:
        return [block for block in self.resblocks if isinstance(block, Block)]


class TextTower(nn.Module):
    """Causal tower; reads the embedding at EOS."""

    def __init__(self, width: int, layers: int, heads: int, context: int, embed: int, activation: str = "quick_gelu"):
        super().__init__()
        self.transformer = Transformer(width, layers, heads, activation)
        self.positional_embedding = nn.Parameter(torch.randn(context, width) * 0.01)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed) * width**-0.5)

    @property
    def width(self) -> int:
        return self.positional_embedding.shape[1]

    @property
    def depth(self) -> int:
        return len(self.transformer.resblocks)

    def forward(self, segments: Sequence[Segment], eot: Tensor, deep: Sequence[Writes] = ()) -> Tensor:
        """Segments with positions already added, eot (C,) the row of EOS in the last one -> (B or 1, C, E).

        deep[i] is written before block i; it may be shorter than the tower, and deep[0] is empty: the input is the
        segments themselves.
        """
        segments = list(segments)
        blocks = self.transformer.blocks
        for i, block in enumerate(blocks):
            for index, tokens in (deep[i] if i < len(deep) else {}).items():
                segments[index] = Segment(tokens, segments[index].mask)
            if i + 1 < len(blocks):
                overwritten = deep[i + 1] if i + 1 < len(deep) else {}
                segments = causal(block, segments, [index not in overwritten for index in range(len(segments))])
        return self.ln_final(read(blocks[-1], segments, eot)) @ self.text_projection


class ImageTower(nn.Module):
    """Vision transformer; prompts are appended behind the patches and the embedding is read at CLS."""

    def __init__(
        self,
        resolution: int,
        patch: int,
        width: int,
        layers: int,
        heads: int,
        embed: int,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.input_resolution = resolution
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn((resolution // patch) ** 2 + 1, width) * width**-0.5)
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation)
        self.proj = nn.Parameter(torch.randn(width, embed) * width**-0.5)

    @property
    def width(self) -> int:
        return self.positional_embedding.shape[1]

    @property
    def depth(self) -> int:
        return len(self.transformer.resblocks)

    def forward(self, image: Tensor, prompts: Sequence[Tensor] = (), literal: bool = False) -> Tensor:
        """image (B, 3, R, R), prompts[i] (n, D) written before block i -> (B, E).

        literal: every position goes through every block, as the reference implementations do.
        """
        x = self.conv1(image.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, patches, D)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding.to(x.dtype))
        patches = x.shape[1]
        last = self.depth - 1
        for i, block in enumerate(self.transformer.blocks):
            extra = None
            if i < len(prompts):
                prompt = prompts[i].to(x.dtype)[None]  # (1, n, D)
                prompt = prompt if i else self.ln_pre(prompt)
                if not literal and (i + 1 < len(prompts) or i == last):  # overwritten or never read: keys only
                    extra = prompt
                else:
                    x = torch.cat([x[:, :patches], prompt.expand(len(x), -1, -1)], dim=1)
            x = block(x, extra=extra, rows=1 if i == last and not literal else None)
        return self.ln_post(x[:, 0]) @ self.proj
