"""A residual attention block, pre-norm or post-norm, with the parameter names of OpenAI's checkpoints.

Axes: n tokens, m key-only tokens, D width, H heads, e = D / H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """Computed in the precision of its weights or of its input, whichever is the higher; returned in the input's."""

    def forward(self, x: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, self.weight.dtype)
        weight, bias = self.weight.to(exact), self.bias.to(exact)
        return F.layer_norm(x.to(exact), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class QuickMLP(torch.autograd.Function):
    """W2 QuickGELU(W1 x + b1) + b2, x (..., D), with no pass over the hidden layer but silu's.

    With s = 1.702 (W1 x + b1) it is W2 silu(s) / 1.702 + b2: both factors go with the products, and cancel in backward.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor) -> Tensor:
        s = torch.addmm(1.702 * b1, x.reshape(-1, x.shape[-1]), W1.T, alpha=1.702)
        ctx.save_for_backward(s, W1, W2, x if any(ctx.needs_input_grad[1:]) else None)
        return torch.addmm(b2, F.silu(s), W2.T, alpha=1 / 1.702).view(*x.shape[:-1], len(W2))

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        s, W1, W2, x = ctx.saved_tensors
        lead, dy = dy.shape[:-1], dy.reshape(-1, dy.shape[-1])
        W1, W2 = W1.to(dy.dtype), W2.to(dy.dtype)  # under autocast dy is half, they are not
        dh = torch.ops.aten.silu_backward(dy @ W2, s)  # h = W1 x + b1
        dx = (dh @ W1).view(*lead, W1.shape[1])
        if x is None:
            return dx, None, None, None, None
        rows = x.reshape(-1, x.shape[-1]).to(dy.dtype)
        return dx, dh.T @ rows, dh.sum(0), dy.T @ F.silu(s) / 1.702, dy.sum(0)


def plain(layer: nn.Module) -> bool:
    """Is a layer its weight and its bias, and nothing that somebody put in its place or hung on it?"""
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) is nn.Linear and layer.bias is not None and not hooks


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,  # by the error function
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
}


@dataclass(frozen=True)
class Style:
    """What blocks of one width differ in."""

    activation: str = "quick_gelu"  # one of ACTIVATIONS
    eps: float = 1e-5  # of the LayerNorms
    post_norm: bool = False  # LayerNorms behind the residual sums, as BERT's, not ahead of attention and MLP
    mlp: int = 0  # width of the MLP; 0: 4 D
    scaled: bool = False  # learned factors on what attention and MLP add (LayerScale)


OPENAI = Style()


class Scale(nn.Module):
    """A factor for each of D numbers."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.to(x.dtype)


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
    """project, attend, finish: attention and MLP, each with its LayerNorm and added to the residual stream.

    Post-norm, the stream itself is normalised behind each sum, so keys and values are linear in it.
    """

    def __init__(self, width: int, heads: int, style: Style = OPENAI):
        super().__init__()
        self.style, hidden = style, style.mlp or 4 * width
        self.ln_1, self.ln_2 = LayerNorm(width, style.eps), LayerNorm(width, style.eps)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})
        self.activation = ACTIVATIONS[style.activation]()
        if style.scaled:
            self.ls_1, self.ls_2 = Scale(width), Scale(width)

    def seen(self, x: Tensor) -> Tensor:
        """What attention projects, of a stream x (..., D)."""
        return x if self.style.post_norm else self.ln_1(x)

    def project(self, x: Tensor, parts: str = "qkv") -> Tensor:
        """x (..., D) -> (..., p D), the parts end to end."""
        return self.attn.project(self.seen(x), parts)

    def think(self, x: Tensor) -> Tensor:
        """The MLP alone."""
        first, second = self.mlp["c_fc"], self.mlp["c_proj"]
        if isinstance(self.activation, QuickGELU) and plain(first) and plain(second):
            return QuickMLP.apply(x, first.weight, first.bias, second.weight, second.bias)
        return second(self.activation(first(x)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream behind attention: x and attended (..., D)."""
        y = self.attn.out_proj(attended)
        if self.style.post_norm:
            x = self.ln_1(x + y)
            return self.ln_2(x + self.think(x))
        x = x + (self.ls_1(y) if self.style.scaled else y)
        y = self.think(self.ln_2(x))
        return x + (self.ls_2(y) if self.style.scaled else y)

    def forward(
        self,
        x: Tensor,
        causal: bool = False,
        extra: Tensor | None = None,
        rows: int | None = None,
        real: Tensor | None = None,
    ) -> Tensor:
        """x (..., n, D), and key-only tokens `extra` (1, m, D) behind it -> the first `rows` of x.

        real: bool, broadcastable to (..., n), False where a token must not be looked at.
        """
        every = x if extra is None else torch.cat([x, extra.expand(*x.shape[:-2], -1, -1)], dim=-2)
        if rows is None:  # of a few key-only tokens queries cost less than a projection of their own
            q, k, v = self.project(every).chunk(3, dim=-1)
            q = q[..., : x.shape[-2], :]
        else:
            x, seen = x[..., :rows, :], self.seen(every)
            q = self.attn.project(seen[..., :rows, :], "q")
            k, v = self.attn.project(seen, "kv").chunk(2, dim=-1)
        lead = x.shape[:-2]
        mask = None if real is None else real.expand(*lead, -1).flatten(0, -2)[:, None, None]
        q, k, v = (t.flatten(0, -3).unflatten(-1, (self.attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)  # its kernels take exactly four axes
        return self.finish(x, y.transpose(1, 2).flatten(-2).unflatten(0, lead))
