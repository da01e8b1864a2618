"""CLIP's two towers, with prompts written into their layers.

Every method is a choice of writes: before block i the tokens of a prompt are overwritten.  What follows from that
alone makes the towers cheap without changing a number, and so serves every method:
  1. the sequence ends at the last token that anything looks at: EOS under a causal mask, [SEP] where pads are masked;
  2. tokens that are overwritten before the next block need only keys and values in this one;
  3. a token carries only the axes it depends on (under a causal mask: SOS none, so its keys are computed once and for
     all; a shared context none, a class name the class); without a causal mask that holds for written tokens and the
     input, for all else everything is seen;
  4. tokens of low rank give keys and values of low rank (lowrank.py); names of different lengths lie end to end
     (packing.py), [CLS] with them where order is free;
  5. what is overwritten before the next block depends on no block: its keys of all blocks come at once (written.py);
  6. the last block computes only the row that is read.
Where they do not hold: a text tower whose pads are seen (`padded`: SigLIP, CLIPs without a causal mask) runs all
positions of its context; an image tower that pools its patches computes them all in its last block.

Axes: B images, C classes, n tokens, D width, E joint embedding, H heads, e = D / H.
Parameter names are those of OpenAI's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cilmp.clip.block import OPENAI, Block, LayerNorm, Style
from cilmp.clip.heads import AttentionPool, apply, projection
from cilmp.clip.segments import Segment, Writes, ahead, keys, read, through


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, style: Style = OPENAI):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, style) for _ in range(layers))

    @property
    def blocks(self) -> list[Block]:
        return [block for block in self.resblocks if isinstance(block, Block)]


class Tower(nn.Module):
    """Blocks between an input that knows its positions and a head."""

    transformer: Transformer
    positional_embedding: nn.Parameter  # (positions, D)

    @property
    def width(self) -> int:
        return self.positional_embedding.shape[1]

    @property
    def depth(self) -> int:
        return len(self.transformer.resblocks)

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.blocks[0].attn.in_proj_weight.dtype


class TextTower(Tower):
    """Reads the embedding at one token of a text.

    causal: does a token see only those before it?  padded: does a text fill the context, its pads seen?  reads: "eot",
    "last" (of the context) or "first".  pre: a LayerNorm behind the embeddings.  final: one behind the last block.
    head: "matrix" (D, E), or as `projection` names it.
    """

    later: Tensor | None  # (context, context) bool, True where a causal mask hides

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        context: int,
        embed: int,
        style: Style = OPENAI,
        *,
        causal: bool = True,
        padded: bool = False,
        reads: str = "eot",
        pre: bool = False,
        final: bool = True,
        head: str = "matrix",
    ):
        super().__init__()
        self.embed, self.causal, self.padded, self.reads = embed, causal, padded, reads
        self.transformer = Transformer(width, layers, heads, style)
        self.positional_embedding = nn.Parameter(torch.randn(context, width) * 0.01)
        self.ln_pre = LayerNorm(width, style.eps) if pre else None
        self.ln_final = LayerNorm(width, style.eps) if final else None
        self.text_projection = projection(head, width, embed)
        later = torch.ones(context, context, dtype=torch.bool).triu(1) if causal else None
        self.register_buffer("later", later, persistent=False)

    def enter(self, x: Tensor) -> Tensor:
        """Embeddings with their positions (..., D) -> the residual stream ahead of block 0."""
        return x if self.ln_pre is None else self.ln_pre(x)

    def leave(self, x: Tensor) -> Tensor:
        """The stream behind the last block at the token that is read, (..., D) -> (..., E)."""
        return apply(self.text_projection, x if self.ln_final is None else self.ln_final(x))

    @torch.no_grad()
    def opening(self, x: Tensor) -> Tensor:
        """The first tokens of every text (1, 1, n, D), which under a causal mask see no others -> their keys and values
        before each block (layers, 2, H, 1, 1, n, e)."""
        segment, found = Segment(self.enter(x.to(self.dtype))), []
        for block in self.transformer.blocks:
            met = keys(block, segment)
            found.append(torch.stack([met.k, met.v]))
            (segment,) = through(block, [segment], [True], self.later)
        return torch.stack(found)

    def forward(self, segments: Sequence[Segment], eot: Tensor, deep: Sequence[Writes] = ()) -> Tensor:
        """Segments with positions already added, eot (C,) the row that is read in the last one -> (B or 1, C, E).

        deep[i] is written before block i, as it is; it may be shorter than the tower, and deep[0] is empty: the input
        is the segments themselves.
        """
        segments = [segment if self.ln_pre is None else segment.normed(self.ln_pre) for segment in segments]
        blocks = self.transformer.blocks
        writes = [deep[i] if i < len(deep) else {} for i in range(len(blocks))]
        for i, block in enumerate(blocks):
            if i == 1:
                segments, writes[1:] = ahead(blocks[1:], segments, writes[1:])
            for index, tokens in writes[i].items():
                segments[index] = Segment(tokens, segments[index].mask)
            if i + 1 < len(blocks):
                wanted = [index not in writes[i + 1] for index in range(len(segments))]
                segments = through(block, segments, wanted, self.later)
        return self.leave(read(blocks[-1], segments, eot, self.later))


class ImageTower(Tower):
    """Vision transformer; prompts are appended behind the patches, without a position.

    pool: what becomes the embedding, "cls", "mean" (of the patches) or "attention" (a learned query over the patches);
    prompts are never pooled.  late: ln_post behind the mean.  cls: is there a class token?  pre: is there an ln_pre?
    bias: of the patches' convolution.  head: "matrix" (D, E), or as `projection` names it.
    """

    def __init__(
        self,
        resolution: int,
        patch: int,
        width: int,
        layers: int,
        heads: int,
        embed: int,
        style: Style = OPENAI,
        *,
        pool: str = "cls",
        late: bool = False,
        cls: bool = True,
        pre: bool = True,
        bias: bool = False,
        head: str = "matrix",
    ):
        super().__init__()
        self.input_resolution, self.pool, self.late = resolution, pool, late
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=bias)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5) if cls else None
        positions = (resolution // patch) ** 2 + cls
        self.positional_embedding = nn.Parameter(torch.randn(positions, width) * width**-0.5)
        self.ln_pre = LayerNorm(width, style.eps) if pre else None
        self.ln_post = LayerNorm(width, style.eps)
        self.transformer = Transformer(width, layers, heads, style)
        self.pooling = AttentionPool(width, heads, style) if pool == "attention" else None
        self.proj = projection(head, width, embed)

    def forward(self, image: Tensor, prompts: Sequence[Tensor] = (), literal: bool = False) -> Tensor:
        """image (B, 3, R, R), prompts[i] (n, D) written before block i -> (B, E).

        literal: every position goes through every block, as the reference implementations do.
        """
        x = self.conv1(image.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, patches, D)
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = self.enter(x + self.positional_embedding.to(x.dtype))
        own, last = x.shape[1], self.depth - 1  # the class token's and the patches' places
        rows = 1 if self.pool == "cls" else None
        lengths = [len(prompt) for prompt in prompts]
        written = torch.cat(list(prompts)).to(x.dtype).split(lengths) if lengths else []  # one cast
        for i, block in enumerate(self.transformer.blocks):
            extra = None
            if i < len(prompts):
                prompt = written[i] if i else self.enter(written[i])
                if not literal and (i + 1 < len(prompts) or i == last):  # overwritten or never read: keys only
                    extra = prompt[None]
                else:
                    x = torch.cat([x[:, :own], prompt.expand(len(x), -1, -1)], dim=1)
            x = block(x, extra=extra, rows=rows if i == last and not literal else None)
        return self.leave(x[:, :own])

    def enter(self, x: Tensor) -> Tensor:
        return x if self.ln_pre is None else self.ln_pre(x)

    def leave(self, x: Tensor) -> Tensor:
        """The stream behind the last block, (B, n, D), of which "cls" needs the first row -> (B, E)."""
        if self.pool == "cls":
            return apply(self.proj, self.ln_post(x[:, 0]))
        if self.pooling is not None:
            return apply(self.proj, self.pooling(self.ln_post(x)))
        patches = x if self.class_embedding is None else x[:, 1:]
        mean = self.ln_post(patches.mean(1)) if self.late else self.ln_post(patches).mean(1)
        return apply(self.proj, mean)
