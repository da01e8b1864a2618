"""Low-rank interventions on frozen LLM states, and their folded twins that never leave the low rank.

Axes: B images, C classes, n tokens, d width of the LLM, E joint embedding of CLIP, r rank, a rows of a projection A.
Sources: ReFT, Wu et al. 2024, arXiv 2404.03592 (LoReFT, NoReFT); CILMP, Du et al. 2025, arXiv 2511.12639 (conditional).
Parameter names are those of the reference checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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

    def folded_shift(self, h: Tensor, f: Tensor) -> Tensor:
        """The same s, nothing of size (B, ..., d) on the way."""
        return self.shift(h, f)

    def forward(self, h: Tensor, f: Tensor) -> Tensor:
        """h (C, n, d), f (B, E) -> h' (B, C, n, d), dropout drawn for every image."""
        moved = h + self.shift(h, f) @ self.rotation().T
        return self.dropout(moved.expand(len(f), -1, -1, -1))

    def folded(self, h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        """A h' (B or 1, C, n, a) for A (a, d), dropout drawn for every (class, token) and shared by the images."""
        s = self.folded_shift(h, f)  # (B, C, n, r)
        R = self.rotation()
        if not (self.training and self.dropout.p):
            return h @ A.T + s @ (A @ R).T
        keep = self.dropout(torch.ones_like(h))  # (C, n, d)
        pairs = torch.einsum("ad,dr->ard", A, R).flatten(0, 1)  # (a r, d): A diag(keep) R is linear in keep
        fold = (keep @ pairs.T).unflatten(-1, (len(A), -1))  # (C, n, a, r)
        return (h * keep) @ A.T + torch.einsum("bcnr,cnar->bcna", s, fold)


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

    def folded_shift(self, h: Tensor, f: Tensor) -> Tensor:
        """W2 (g * h) = (W2 diag(h) [F2 | a2]) [u ; 1] with u = F1 f + a1: an r x (r + 1) matrix a token, image-free.

        Its entries are linear in h, so one product with the pairwise products of W2's rows and F2's columns gives all.
        """
        first, second = self.image_feature_learned_weight
        u = first(f)  # (B, r)
        u = torch.cat([u, torch.ones_like(u[:, :1])], dim=1)  # (B, r + 1)
        gate = torch.cat([second.weight, second.bias[:, None]], dim=1)  # (d, r + 1)
        W1, W2 = self.learned_source.weight.chunk(2, dim=1)  # (r, d) each
        pairs = torch.einsum("rd,dm->rmd", W2, gate).flatten(0, 1)  # (r (r + 1), d)
        fold = (h @ pairs.T).unflatten(-1, (len(W2), -1))  # (C, n, r, r + 1)
        own = h @ (W1 - self.rotation().T).T + self.learned_source.bias  # (C, n, r)
        return own + torch.einsum("cnrm,bm->bcnr", fold, u)


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

    def folded(self, h: Tensor, f: Tensor, A: Tensor) -> Tensor:
        return (h @ A.T)[None]


INTERVENTIONS: dict[str, type[Intervention]] = {
    "conditional": Conditional,
    "loreft": LoReFT,
    "noreft": NoReFT,
    "none": Untouched,
}
