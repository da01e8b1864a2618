"""From a tower's width to the joint embedding, and from many patches to one vector.

Axes: B images, n patches, D width, E joint embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.block import ACTIVATIONS, Attention, LayerNorm, Style


def projection(kind: str, width: int, embed: int) -> nn.Parameter | nn.Module | None:
    """kind: "matrix" (D, E) as OpenAI's, "linear" with a bias, "plain" without one, "mlp" (two linear layers without
    biases around a GELU, (D + E) // 2 wide), or "none" (E = D)."""
    if kind == "matrix":
        return nn.Parameter(torch.randn(width, embed) * width**-0.5)
    if kind in ("linear", "plain"):
        return nn.Linear(width, embed, bias=kind == "linear")
    if kind == "mlp":
        hidden = (width + embed) // 2
        return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, embed, bias=False))
    return None


def apply(head: nn.Parameter | nn.Module | None, x: Tensor) -> Tensor:
    """(..., D) -> (..., E)."""
    if head is None:
        return x
    return x @ head if isinstance(head, nn.Parameter) else head(x)


class AttentionPool(nn.Module):
    """SigLIP's: a learned query attends to all patches, and an MLP is added to what it finds."""

    def __init__(self, width: int, heads: int, style: Style):
        super().__init__()
        hidden = style.mlp or 4 * width
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.attn, self.ln = Attention(width, heads), LayerNorm(width, style.eps)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})
        self.activation = ACTIVATIONS[style.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, D) -> (B, D)."""
        q = self.attn.project(self.probe.to(x.dtype).expand(len(x), 1, -1), "q")
        k, v = self.attn.project(x, "kv").chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)[:, 0]
        y = self.attn.out_proj(y)
        return y + self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln(y))))
