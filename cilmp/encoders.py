"""CLIP's two towers, with prompts written into their layers.

Every method is a choice of writes: before block i the tokens of a prompt are overwritten.  What follows from that
alone makes the towers cheap without changing a number, and so serves every method:
  1. text attention is causal and only EOS is read, so the sequence ends at the last EOS;
  2. tokens that are overwritten before the next block need only keys and values in this one;
  3. a token carries only the axes it depends on (SOS none, a shared context none, a class name the class);
  4. tokens of low rank give keys and values of low rank (attention.py); names of different lengths lie end to end
     (packing.py);
  5. the last block computes only the row that is read.

Axes: B images, C classes, n tokens, D width, E joint embedding, H heads, e = D / H.
Parameter names are those of OpenAI's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.attention import Keys, LowRank, Segment, attend, low_rank_keys, merge, with_heads_first
from cilmp.packing import Packed, Packing

Writes = Mapping[int, Tensor | LowRank]  # segment -> the tokens that overwrite it


class LayerNorm(nn.LayerNorm):
    """Computed in the precision of its weights (fp32 in a half-precision CLIP), returned in that of its input."""

    def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
        weight, bias = self.weight, self.bias
        if factor != 1.0:
            weight, bias = factor * weight, factor * bias
        return F.layer_norm(x.to(weight.dtype), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Attention(nn.Module):
    """The parameters of torch's MultiheadAttention under the same names; Block does the arithmetic."""

    def __init__(self, width: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """torch's fused attention for q, k, v (..., n, H, e); its kernels take exactly four axes."""
    lead = q.shape[:-3]
    q, k, v = (t.reshape(-1, *t.shape[-3:]).transpose(1, 2) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).unflatten(0, lead)


class Block(nn.Module):
    """Pre-norm residual attention block."""

    def __init__(self, width: int, heads: int, gelu: str = "quick_gelu"):
        super().__init__()
        self.width, self.heads, self.gelu = width, heads, gelu
        self.ln_1, self.ln_2 = LayerNorm(width), LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream after attention: x and attended (..., D)."""
        x = x + self.attn.out_proj(attended)
        fc, proj = self.mlp["c_fc"], self.mlp["c_proj"]
        if self.gelu != "quick_gelu":
            return x + proj(F.gelu(fc(self.ln_2(x))))
        # x sigmoid(1.702 x) = silu(1.702 x) / 1.702: the factors sit where they meet vectors, not (..., 4 D)
        h = F.linear(self.ln_2(x, 1.702), fc.weight, 1.702 * fc.bias)
        return torch.add(x, F.linear(F.silu(h), proj.weight, 1.702 * proj.bias), alpha=1 / 1.702)

    def project(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """Parts [first, last) of (query, key, value) of x (..., n, D), each (..., n, H, e)."""
        return self.heads_of(self.linear(x, first, last))

    def linear(self, x: Tensor, first: int, last: int) -> Tensor:
        """The same end to end, (..., n, (last - first) D)."""
        rows = slice(first * self.width, last * self.width)
        return F.linear(self.ln_1(x), self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows])

    def heads_of(self, y: Tensor) -> tuple[Tensor, ...]:
        return y.unflatten(-1, (-1, self.heads, self.width // self.heads)).unbind(-3)

    def full(self, x: Tensor, extra: Tensor | None = None, causal: bool = False, rows: int | None = None) -> Tensor:
        """Plain attention over x (..., n, D) and key-only tokens `extra` (... or 1, m, D) -> the first `rows` of x."""
        if rows is None:
            q, k, v = self.project(x, 0, 3)
        else:
            (q,), (k, v), x = self.project(x[..., :rows, :], 0, 1), self.project(x, 1, 3), x[..., :rows, :]
        if extra is not None:
            more = (t.expand(*k.shape[:-3], -1, -1, -1) for t in self.project(extra, 1, 3))
            k, v = (torch.cat(pair, dim=-3) for pair in zip((k, v), more, strict=True))
        return self.finish(x, fused(q, k, v, causal).flatten(-2))

    def keys(self, segment: Segment) -> Keys:
        """Of a segment that only is looked at."""
        if isinstance(segment.x, LowRank):
            weight, bias = self.attn.in_proj_weight[self.width :], self.attn.in_proj_bias[self.width :]
            return low_rank_keys(segment.x, self.ln_1, weight, bias, self.heads, segment.hidden)
        return self.kept(self.linear(segment.tokens, 1, 3), segment)

    def kept(self, y: Tensor, segment: Segment) -> Keys:
        """Keys from the key and value parts y of the segment's tokens."""
        if segment.packing:
            y = segment.packing.whole.pad(y)
        return Keys(*with_heads_first(y, self.heads, 2), segment.hidden)

    def causal(self, segments: Sequence[Segment], wanted: Sequence[bool]) -> list[Segment]:
        """Causal attention over segments; those not wanted give keys and values and come back as they were."""
        keys: list[Keys] = []
        after = []
        for i, (segment, want) in enumerate(zip(segments, wanted, strict=True)):
            if not want:
                keys.append(self.keys(segment))
                after.append(segment)
                continue
            x = segment.tokens.to(self.attn.in_proj_weight.dtype)
            y = self.linear(x, 0, 3)
            after.append(self.step(segment, x, y, keys))
            if i + 1 < len(segments):
                keys.append(self.kept(y[..., self.width :], segment))
        return after

    def step(self, segment: Segment, x: Tensor, y: Tensor, before: Sequence[Keys]) -> Segment:
        """The segment behind the block: x its tokens, y their query, key and value, `before` the keys ahead of it."""
        packing = segment.packing
        if not (packing or before or segment.mask is not None):
            return Segment(self.finish(x, fused(*self.heads_of(y), causal=True).flatten(-2)))
        parts = []
        for _, some, (q, k, v) in self.groups(y, packing, merge(before)):
            hidden = future(q) if packing or segment.mask is None else future(q) | segment.hidden
            parts.append(attend(q, [*some, Keys(k, v, hidden)]))
        x = self.finish(x, self.join(parts, packing))
        return Segment(Packed(x, packing) if packing else x, segment.mask)

    def groups(self, y: Tensor, packing: Packing | None, before: Sequence[Keys]):
        """Of each group: its classes (None: all), their keys among `before`, the parts of y as (H, B, C_g, m_g, e)."""
        y = with_heads_first(y, self.heads, y.shape[-1] // self.width)
        if not packing:
            return [(None, before, y.unbind(0))]
        parts = packing.split(y.flatten(0, 2))
        return [
            (classes, [key.of(classes) for key in before], part.unflatten(0, y.shape[:3]).unbind(0))
            for classes, part in zip(packing.members, parts, strict=True)
        ]

    def join(self, parts: Sequence[Tensor], packing: Packing | None) -> Tensor:
        """Each group's (H, B, C_g, m_g, e) -> (B, N, D); without packing (B, C, n, D)."""
        if packing:
            lead = parts[0].shape[:2]
            joined = packing.join([part.flatten(0, 1) for part in parts]).unflatten(0, lead)
        else:
            (joined,) = parts
        return joined.movedim(0, -2).flatten(-2)

    def read(self, segments: Sequence[Segment], row: Tensor) -> Tensor:
        """The last block: only token row[c] of the last segment is computed, (B, C, D)."""
        before, last = merge([self.keys(s) for s in segments[:-1]]), segments[-1]
        tokens, packing = last.tokens, last.packing
        if packing:
            x = last.x.rows(row)
        else:
            index = row[None, :, None, None].expand(tokens.shape[0], -1, -1, tokens.shape[-1])
            x = tokens.expand(-1, len(row), -1, -1).gather(2, index).squeeze(2)
        x = x[:, :, None]  # (B or 1, C, 1, D)
        (q,) = with_heads_first(self.linear(x, 0, 1), self.heads, 1)
        y, parts = self.linear(tokens, 1, 3), []
        for classes, some, (k, v) in self.groups(y, packing, before):
            rows, queries = (row, q) if classes is None else (row[classes], q.index_select(2, classes))
            parts.append(attend(queries, [*some, Keys(k, v, behind(rows, k))]))
        y = torch.cat(parts, dim=2)
        y = y.index_select(2, packing.back) if packing else y
        return self.finish(x, y.movedim(0, -2).flatten(-2)).squeeze(2)


def future(q: Tensor) -> Tensor:
    """(1, n, n) bool for q (..., n, e), True where a key lies behind its query."""
    return torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)[None]


def behind(row: Tensor, k: Tensor) -> Tensor:
    """(C, 1, n) bool for k (..., n, e), True for the keys behind token row (C,)."""
    return (torch.arange(k.shape[-2], device=row.device) > row[:, None])[:, None]


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, gelu: str = "quick_gelu"):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, gelu) for _ in range(layers))


class TextTower(nn.Module):
    """Causal tower; reads the embedding at EOS."""

    def __init__(self, width: int, layers: int, heads: int, context: int, embed: int, gelu: str = "quick_gelu"):
        super().__init__()
        self.transformer = Transformer(width, layers, heads, gelu)
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
        blocks = self.transformer.resblocks
        for i, block in enumerate(blocks):
            for index, tokens in (deep[i] if i < len(deep) else {}).items():
                segments[index] = Segment(tokens, segments[index].mask)
            if i + 1 < len(blocks):
                overwritten = deep[i + 1] if i + 1 < len(deep) else {}
                segments = block.causal(segments, [index not in overwritten for index in range(len(segments))])
        return self.ln_final(blocks[-1].read(segments, eot)) @ self.text_projection


class ImageTower(nn.Module):
    """Vision transformer; prompts are appended behind the patches and the embedding is read at CLS."""

    def __init__(
        self, resolution: int, patch: int, width: int, layers: int, heads: int, embed: int, gelu: str = "quick_gelu"
    ):
        super().__init__()
        self.input_resolution = resolution
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn((resolution // patch) ** 2 + 1, width) * width**-0.5)
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, gelu)
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
        for i, block in enumerate(self.transformer.resblocks):
            extra = None
            if i < len(prompts):
                prompt = prompts[i].to(x.dtype)[None]  # (1, n, D)
                prompt = prompt if i else self.ln_pre(prompt)
                if not literal and (i + 1 < len(prompts) or i == last):  # overwritten or never read: keys only
                    extra = prompt
                else:
                    x = torch.cat([x[:, :patches], prompt.expand(len(x), -1, -1)], dim=1)
            x = block.full(x, extra, rows=1 if i == last and not literal else None)
        return self.ln_post(x[:, 0]) @ self.proj
