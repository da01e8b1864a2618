"""Linear centred kernel alignment, the similarity of two representations of the same things.

Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, https://arxiv.org/abs/1905.00414

    CKA(X, Y) = |Y^T X|^2 / (|X^T X| |Y^T Y|)      X, Y with centred columns, Frobenius norms
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """x (n, p), y (n, q): rows are the same n things.  In [0, 1]; nan if either is constant.

    By n x n Gram matrices, for there are few classes and wide layers: |Y^T X|^2 = <X X^T, Y Y^T>.
    """
    a, b = gram(x), gram(y)
    return float((a * b).sum() / (a.norm() * b.norm()))


def gram(x: Tensor) -> Tensor:
    x = x.double() - x.double().mean(0)
    return x @ x.T


def between_layers(states: Tensor) -> Tensor:
    """(C, L, d) -> (L, L): the similarity of any two layers over the classes."""
    grams = torch.stack([gram(layer).flatten() for layer in states.transpose(0, 1)])  # (L, C * C)
    unit = grams / grams.norm(dim=1, keepdim=True)
    return (unit @ unit.T).float()
