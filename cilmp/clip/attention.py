"""What a query may look at: keys and values of segments, each kept at the smallest size that holds them.

Axes: B images, C classes, H heads, q queries, n tokens of a segment, w rows that tokens are mixtures of, e width of a
head, D = H * e.  Leading axes are (B or 1, C or 1); torch.einsum broadcasts the ones without copying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.clip.packing import Packing

SINGLE = ("cpu",)  # devices on which one large product is never slower than many small ones


@dataclass(frozen=True)
class Keys:
    """Keys and values k and v (H, B or 1, C or 1, n, e); with z (B or 1, C or 1, n, w) they are z k and z v of w rows,
    which are never built: a query meets the rows, then z.

    hidden: bool, broadcastable to (C, q, n), True where a query must not look.
    """

    k: Tensor
    v: Tensor
    hidden: Tensor | None = None
    z: Tensor | None = None

    @property
    def length(self) -> int:
        """n."""
        return (self.k if self.z is None else self.z).shape[-2]

    def scores(self, q: Tensor) -> Tensor:
        """Queries q (H, B, C, q, e) -> (H, B, C, q, n)."""
        scores = torch.einsum("hbcqe,hbcwe->hbcqw", q, for_each(self.k, q.shape[1]))
        return scores if self.z is None else torch.einsum("hbcqw,bcnw->hbcqn", scores, self.z)

    def mix(self, p: Tensor) -> Tensor:
        """p (H, B, C, q, n) -> (H, B, C, q, e)."""
        if self.z is not None:
            p = torch.einsum("hbcqn,bcnw->hbcqw", p, self.z)
        return torch.einsum("hbcqw,hbcwe->hbcqe", p, for_each(self.v, p.shape[1]))


def for_each(x: Tensor, images: int) -> Tensor:
    """x (., 1, ...), which all images share, as (., B, ...) on a GPU, for a product with what is theirs.

    Its gradient is then a product for each image and a sum over them.  As one product over the tokens of all images it
    has so few numbers that most of a GPU has nothing to do.
    """
    shared = x.shape[1] == 1 < images and x.requires_grad and x.device.type not in SINGLE
    return x.expand(-1, images, *x.shape[2:]) if shared else x


def beside(parts: Sequence[Tensor], dim: int) -> Tensor:
    """End to end along dim, which is negative; the axes ahead of it broadcast."""
    lead = torch.broadcast_shapes(*(x.shape[:dim] for x in parts))
    return torch.cat([x.expand(*lead, *x.shape[dim:]) for x in parts], dim=dim)


def identity(x: Tensor) -> Tensor:
    """x (..., n, .) -> (1, 1, 1, n, n)."""
    return torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)[None, None, None]


def diagonal(parts: Sequence[Tensor]) -> Tensor:
    """(..., n, w) each, block-diagonal along both."""
    widths = [x.shape[-1] for x in parts]
    padded = [F.pad(x, (sum(widths[:i]), sum(widths[i + 1 :]))) for i, x in enumerate(parts)]
    return beside(padded, dim=-2)


def split_heads(y: Tensor, heads: int, parts: int, packing: Packing | None = None) -> tuple[Tensor, ...]:
    """y (..., parts * D) -> `parts` tensors (H, ..., e): heads first, so every product is batched without a copy.

    Packed tokens (B, N, parts * D) come in the places of their classes, (H, B, C, n, e).
    """
    y = y.unflatten(-1, (parts, heads, -1))
    return (packing.split(y) if packing else y.movedim((-3, -2), (0, 1)).contiguous()).unbind(0)


def join_heads(y: Tensor, packing: Packing | None = None) -> Tensor:
    """y (H, B, C, n, e) -> (B, C, n, D), or packed (B, N, D)."""
    if packing:
        return packing.join(y).flatten(-2)
    if y.requires_grad:
        y.register_hook(Tensor.contiguous)  # once, not in each product that y is a sum of
    return y.movedim(0, -2).flatten(-2)


def joined(keys: Sequence[Keys]) -> list[Keys]:
    """What all images and classes share and nothing hides as one set; the order of keys makes no difference."""
    shared: list[Keys] = []
    others: list[Keys] = []
    for key in keys:
        everywhere = key.z is None and key.hidden is None and key.k.shape[1:3] == (1, 1)
        (shared if everywhere else others).append(key)
    if len(shared) < 2:
        return list(keys)
    k, v = (beside([getattr(key, name) for key in shared], dim=-2) for name in ("k", "v"))
    return [Keys(k, v), *others]


def merged(keys: Sequence[Keys]) -> Keys:
    """Several sets as one, at the size of the largest axes; hidden (C or 1, 1, n)."""
    if len(keys) == 1:
        return keys[0]
    k, v = (beside([getattr(key, name) for key in keys], dim=-2) for name in ("k", "v"))
    z = hidden = None
    if any(key.z is not None for key in keys):
        z = diagonal([identity(key.k)[0] if key.z is None else key.z for key in keys])
    if any(key.hidden is not None for key in keys):
        seen = k.new_zeros(1, 1, 1, dtype=torch.bool)
        hidden = beside([seen.expand(1, 1, key.length) if key.hidden is None else key.hidden for key in keys], dim=-1)
    return Keys(k, v, hidden, z)


def attend(q: Tensor, keys: Sequence[Keys]) -> Tensor:
    """Softmax attention of queries q (H, B or 1, C or 1, q, e) over several segments -> (H, B, C, q, e).

    Shared keys are met where they lie: nothing of size (B, C, n, D) is expanded.
    """
    keys = joined(keys)
    scale, early = q.shape[-1] ** -0.5, q.dtype == torch.float16  # whose products could overflow
    if early:
        q = q * scale
    scores = [key.scores(q) for key in keys]
    sizes, every = [s.shape[-1] for s in scores], beside(scores, dim=-1)
    for key, own in zip(keys, every.detach().split(sizes, dim=-1), strict=True):
        if key.hidden is not None:
            own.masked_fill_(key.hidden, -torch.inf)  # weights of zero, whose gradients are zero without being told
    if not early:  # scaling q makes backward keep a second copy of it
        every = every * scale
    weights = every.softmax(-1).to(q.dtype).split(sizes, dim=-1)
    mixed = keys[0].mix(weights[0])
    for key, weight in zip(keys[1:], weights[1:], strict=True):
        mixed = mixed + key.mix(weight)
    return mixed
