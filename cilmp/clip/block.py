"""A pre-norm residual attention block, with the parameter names of OpenAI's checkpoints.

Axes: n tokens, m key-only tokens, D width, H heads, e = D / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """Computed in the precision of its weights (fp32 in a half-precision CLIP), returned in that of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), written as one activation of which backward keeps one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(1.702 * x) / 1.702


ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class Attention(nn.Module):
    """The projections of torch's MultiheadAttention under the same names; a Block does the attending."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.width, self.heads = width, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def rows(self, parts: str) -> tuple[Tensor, Tensor]:
        """Weight (p D, D) and bias (p D,) of p neighbouring parts of "qkv"."""
        first = "qkv".index(parts) * self.width
        rows = slice(first, first + len(parts) * self.width)
        return self.in_proj_weight[rows], self.in_proj_bias[rows]

    def project(self, x: Tensor, parts: str = "qkv") -> Tensor:
        """x (..., D) -> (..., p D).  Whoever adapts the projections overrides `rows`."""
        return F.linear(x, *self.rows(parts))


class Block(nn.Module):
    """project, attend, finish: attention and MLP, each behind a LayerNorm and added to the residual stream."""

    def __init__(self, width: int, heads: int, activation: str = "quick_gelu"):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(width), LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.activation = ACTIVATIONS[activation]()

    def project(self, x: Tensor, parts: str = "qkv") -> Tensor:
        """x (..., D) -> (..., p D), the parts end to end."""
        return self.attn.project(self.ln_1(x), parts)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream behind attention: x and attended (..., D)."""
        x = x + self.attn.out_proj(attended)
        return x + self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))

    def forward(self, x: Tensor, causal: bool = False, extra: Tensor | None = None, rows: int | None = None) -> Tensor:
        """x (..., n, D), and key-only tokens `extra` (1, m, D) behind it -> the first `rows` of x."""
        if rows is None:
            q, k, v = self.project(x).chunk(3, dim=-1)
        else:
            normed = self.ln_1(x)
            x, q = x[..., :rows, :], self.attn.project(normed[..., :rows, :], "q")
            k, v = self.attn.project(normed, "kv").chunk(2, dim=-1)
        if extra is not None:
            more = (t.expand(*k.shape[:-2], -1, -1) for t in self.project(extra, "kv").chunk(2, dim=-1))
            k, v = (torch.cat(pair, dim=-2) for pair in zip((k, v), more, strict=True))
        lead = x.shape[:-2]
        q, k, v = (t.flatten(0, -3).unflatten(-1, (self.attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)  # its kernels take exactly four axes
        return self.finish(x, y.transpose(1, 2).flatten(-2).unflatten(0, lead))
