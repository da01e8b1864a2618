"""Low-rank interventions on frozen LLM states, and their folded twins that never leave the low rank.

Axes: G ends of a representation (first states, last states), K layers, B images, C classes, n tokens of an end, d width
of the LLM, E joint embedding of CLIP, r rank, a rows of a projection A.
Sources: ReFT, Wu et al. 2024, arXiv 2404.03592 (LoReFT, NoReFT); CILMP, Du et al. 2025, arXiv 2511.12639 (conditional).
Parameter names are those of the reference checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.dropout import Dropped, inner

Grid = Sequence[Sequence["Intervention"]]  # of one kind: G ends, K layers each


def stacked(parameters: Iterable[Tensor]) -> Tensor:
    """K parameters as one (K, ...), whose gradient comes back in their layout: each takes its part without a copy.

    The K gradients share a storage then.
    """
    every = torch.stack(list(parameters))
    if every.requires_grad:
        every.register_hook(Tensor.contiguous)
    return every


def projected(h: Tensor, A: Tensor) -> Tensor:
    """h (G, C, n, d) through A (G, K, a, d) -> (G, K, C, n, a), one product an end."""
    every = inner(h.flatten(1, 2), A.flatten(1, 2))  # (G, C n, K a)
    return every.unflatten(1, h.shape[1:3]).unflatten(-1, A.shape[1:3]).movedim(-2, 1)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Of every row of a (..., i, d) with every row of b (..., j, d), (..., i j, d)."""
    return (a[..., :, None, :] * b.contiguous()[..., None, :, :]).flatten(-3, -2)


class Rotation(nn.Module):
    """R (d, r) with orthonormal columns at the start."""

    def __init__(self, d: int, r: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(d, r)))


class Intervention(nn.Module):
    """h' = h + R s(h, f) with r numbers s; a subclass says what R and s are."""

    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def rotation(self) -> Tensor:
        """R (d, r)."""
        raise NotImplementedError

    def shift(self, h: Tensor, f: Tensor) -> Tensor:
        """s (B or 1, C, n, r), by the equation, for h (C, n, d) and f (B, E)."""
        raise NotImplementedError

    @classmethod
    def folded_shifts(cls, modules: Grid, h: Tensor, f: Tensor, R: Tensor) -> Tensor:
        """s (G, K, B or 1, C, n, r) for h (G, C, n, d) and R (G, K, d, r); nothing of size (B, ..., d) on the way."""
        return torch.stack(
            [torch.stack([m.shift(end, f) for m in layers]) for layers, end in zip(modules, h, strict=True)]
        )

    def forward(self, h: Tensor, f: Tensor) -> Tensor:
        """h (C, n, d), f (B, E) -> h' (B, C, n, d), dropout drawn for every image."""
        moved = h + self.shift(h, f) @ self.rotation().T
        return self.dropout(moved.expand(len(f), -1, -1, -1))

    @classmethod
    def folded(cls, modules: Grid, h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        """A h' (G, K, B or 1, C, n, a), the interventions of an end on the same h (G, C, n, d) -- few, large products.

        A (K, a, d).  Dropout is drawn for every (end, layer, class, token) and shared by the images.
        """
        R = stacked(m.rotation() for layers in modules for m in layers).unflatten(0, (len(modules), -1))  # (G, K, d, r)
        s = cls.folded_shifts(modules, h, f, R)
        A, dropout = A.expand(len(modules), *A.shape), modules[0][0].dropout
        if not (dropout.training and dropout.p):
            return projected(h, A)[:, :, None] + torch.einsum("gkbcnr,gkar->gkbcna", s, A @ R)
        pairs = products(A, R.mT)  # A diag(keep) R is linear in keep
        share = 1 - dropout.p
        each = (Dropped.apply(*end, share) for end in zip(h.flatten(1, 2), A, pairs, strict=True))  # masks are large
        own, fold = (torch.stack(x).unflatten(2, h.shape[1:3]) for x in zip(*each, strict=True))
        fold = fold.unflatten(-1, (A.shape[-2], -1))  # (G, K, C, n, a, r)
        return (own[:, :, None] + torch.einsum("gkbcnr,gkcnar->gkbcna", s, fold)) / share


class Conditional(Intervention):
    """CILMP's conditional low-rank intervention:

    s = W [h ; g(f) * h] + b - R^T h,   g(f) = F2 (F1 f + a1) + a2,   * elementwise
    """

    def __init__(self, d: int, embed: int, r: int, dropout: float = 0.1):
        super().__init__(dropout)
        self.rotate_layer = Rotation(d, r)
        self.learned_source = nn.Linear(2 * d, r)
        self.image_feature_learned_weight = nn.Sequential(nn.Linear(embed, r), nn.Linear(r, d))

    def rotation(self) -> Tensor:
        return self.rotate_layer.weight

    def shift(self, h: Tensor, f: Tensor) -> Tensor:
        gate = self.image_feature_learned_weight(f)[:, None, None]  # (B, 1, 1, d)
        both = torch.cat([h.expand(len(f), -1, -1, -1), gate * h], dim=-1)  # (B, C, n, 2 d)
        return self.learned_source(both) - h @ self.rotation()

    @classmethod
    def folded_shifts(cls, modules: Grid, h: Tensor, f: Tensor, R: Tensor) -> Tensor:
        """W2 (g * h) = (W2 diag(h) [F2 | a2]) [u ; 1] with u = F1 f + a1: an r x (r + 1) matrix a token, image-free.

        Its entries are linear in h: a product with the pairwise products of W2's rows and F2's columns.
        """

        def every(name: str) -> Tensor:  # (G, K, ...)
            return stacked(attrgetter(name)(m) for layers in modules for m in layers).unflatten(0, R.shape[:2])

        gate = "image_feature_learned_weight"
        first, bias = every(f"{gate}.0.weight"), every(f"{gate}.0.bias")  # (G, K, r, E), (G, K, r)
        u = F.linear(f, first.flatten(0, 2), bias.flatten()).unflatten(-1, bias.shape)
        u = F.pad(u, (0, 1), value=1.0)  # (B, G, K, r + 1)
        second = torch.cat([every(f"{gate}.1.weight"), every(f"{gate}.1.bias")[..., None]], dim=-1)  # (G, K, d, r + 1)
        W1, W2 = every("learned_source.weight").chunk(2, dim=-1)  # (G, K, r, d) each
        own = projected(h, W1 - R.mT) + every("learned_source.bias")[:, :, None, None]  # (G, K, C, n, r)
        fold = projected(h, products(W2, second.mT)).unflatten(-1, (W2.shape[2], -1))  # (G, K, C, n, r, r + 1)
        return own[:, :, None] + torch.einsum("gkcnrm,bgkm->gkbcnr", fold, u)


class LoReFT(Intervention):
    """s = W h + b - R^T h, the same for every image."""

    def __init__(self, d: int, embed: int, r: int, dropout: float = 0.1):
        super().__init__(dropout)
        self.rotate_layer = Rotation(d, r)
        self.learned_source = nn.Linear(d, r)

    def rotation(self) -> Tensor:
        return self.rotate_layer.weight

    def shift(self, h: Tensor, f: Tensor) -> Tensor:
        return (self.learned_source(h) - h @ self.rotation())[None]


class NoReFT(Intervention):
    """h' = h + P^T (W h + b - (P h + c)): LoReFT without the orthogonal start, P a linear layer of its own."""

    def __init__(self, d: int, embed: int, r: int, dropout: float = 0.1):
        super().__init__(dropout)
        self.proj_layer = nn.Linear(d, r)
        self.learned_source = nn.Linear(d, r)

    def rotation(self) -> Tensor:
        return self.proj_layer.weight.T

    def shift(self, h: Tensor, f: Tensor) -> Tensor:
        return (self.learned_source(h) - self.proj_layer(h))[None]


class Untouched(Intervention):
    """h' = h: the LLM's states as they are, the ablation without intervention.  No dropout: nothing is learned here."""

    def __init__(self, d: int, embed: int, r: int, dropout: float = 0.1):
        super().__init__(0.0)

    def forward(self, h: Tensor, f: Tensor) -> Tensor:
        return h[None]

    @classmethod
    def folded(cls, modules: Grid, h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        return projected(h, A.expand(len(modules), *A.shape))[:, :, None]


INTERVENTIONS: dict[str, type[Intervention]] = {
    "conditional": Conditional,
    "loreft": LoReFT,
    "noreft": NoReFT,
    "none": Untouched,
}
