"""Low-rank interventions on frozen LLM states, and their folded twins that never leave the low rank.

Axes: K layers, B images, C classes, n tokens, d width of the LLM, E joint embedding of CLIP, r rank, a rows of a
projection A.
Sources: ReFT, Wu et al. 2024, arXiv 2404.03592 (LoReFT, NoReFT); CILMP, Du et al. 2025, arXiv 2511.12639 (conditional).
Parameter names are those of the reference checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.dropout import Dropped


def projected(h: Tensor, A: Tensor) -> Tensor:
    """h (C, n, d) through A (K, a, d) -> (K, C, n, a); as one linear layer, whose gradient has A's layout."""
    return F.linear(h, A.flatten(0, 1)).unflatten(-1, A.shape[:2]).movedim(-2, 0)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Of every row of a (K, i, d) with every row of b (K, j, d), (K, i j, d)."""
    return (a[:, :, None] * b[:, None]).flatten(1, 2)


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
    def folded_shifts(cls, modules: Sequence[Intervention], h: Tensor, f: Tensor) -> Tensor:
        """The s of K interventions on the same h, (K, B or 1, C, n, r), nothing of size (B, ..., d) on the way."""
        return torch.stack([module.shift(h, f) for module in modules])

    def forward(self, h: Tensor, f: Tensor) -> Tensor:
        """h (C, n, d), f (B, E) -> h' (B, C, n, d), dropout drawn for every image."""
        moved = h + self.shift(h, f) @ self.rotation().T
        return self.dropout(moved.expand(len(f), -1, -1, -1))

    @classmethod
    def folded(cls, modules: Sequence[Intervention], h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        """A h' (K, B or 1, C, n, a) of K interventions (the layers') on the same h, A (K, a, d) -- few, large products.

        Dropout is drawn for every (layer, class, token) and shared by the images.
        """
        s = cls.folded_shifts(modules, h, f)
        R = torch.stack([module.rotation() for module in modules])  # (K, d, r)
        if not (modules[0].training and modules[0].dropout.p):
            return projected(h, A)[:, None] + torch.einsum("kbcnr,kar->kbcna", s, A @ R)
        pairs = products(A, R.transpose(1, 2))  # A diag(keep) R is linear in keep
        share = 1 - modules[0].dropout.p
        own, fold = (x / share for x in Dropped.apply(h.flatten(0, 1), A, pairs, share))
        own, fold = own.unflatten(1, h.shape[:2]), fold.unflatten(1, h.shape[:2])
        fold = fold.unflatten(-1, (A.shape[1], -1))  # (K, C, n, a, r)
        return own[:, None] + torch.einsum("kbcnr,kcnar->kbcna", s, fold)


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
    def folded_shifts(cls, modules: Sequence[Intervention], h: Tensor, f: Tensor) -> Tensor:
        """W2 (g * h) = (W2 diag(h) [F2 | a2]) [u ; 1] with u = F1 f + a1: an r x (r + 1) matrix a token, image-free.

        Its entries are linear in h, so one product with the pairwise products of W2's rows and F2's columns, of all
        interventions, gives all.
        """
        first, second = ([module.image_feature_learned_weight[i] for module in modules] for i in (0, 1))
        u = torch.einsum("be,kre->kbr", f, torch.stack([m.weight for m in first]))
        u = F.pad(u + torch.stack([m.bias for m in first])[:, None], (0, 1), value=1.0)  # (K, B, r + 1)
        gate = torch.stack([torch.cat([m.weight.T, m.bias[None]]) for m in second])  # (K, r + 1, d)
        W1, W2 = torch.stack([m.learned_source.weight for m in modules]).chunk(2, dim=2)  # (K, r, d) each
        R = torch.stack([m.rotation().T for m in modules])  # (K, r, d)
        pairs = products(W2, gate)  # (K, r (r + 1), d)
        linear = torch.cat([pairs, W1 - R], dim=1)  # (K, ., d)
        fold, own = projected(h, linear).split([pairs.shape[1], W1.shape[1]], dim=-1)
        own = own + torch.stack([m.learned_source.bias for m in modules])[:, None, None]  # (K, C, n, r)
        fold = fold.unflatten(-1, (W2.shape[1], -1))  # (K, C, n, r, r + 1)
        return own[:, None] + torch.einsum("kcnrm,kbm->kbcnr", fold, u)


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
    def folded(cls, modules: Sequence[Intervention], h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        return projected(h, A)[:, None]


INTERVENTIONS: dict[str, type[Intervention]] = {
    "conditional": Conditional,
    "loreft": LoReFT,
    "noreft": NoReFT,
    "none": Untouched,
}
