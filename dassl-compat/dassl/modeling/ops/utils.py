"""Small functions of semi-supervised learning."""

import math

import torch
from torch import Tensor, nn


def sharpen_prob(p: Tensor, temperature: float = 2) -> Tensor:
    """Probabilities (B, C) to the power of `temperature`, normalised."""
    powers = p**temperature
    return powers / powers.sum(1, keepdim=True)


def reverse_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    return data.flip(0), label.flip(0)


def shuffle_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(data))
    return data[order], label[order]


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """(B,) -> (B, num_classes), float."""
    return nn.functional.one_hot(label, num_classes).float()


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """From exp(-5) to 1 over `rampup_length` steps, exp(-5 (1 - t)^2)."""
    left = 1.0 - linear_rampup(current, rampup_length)
    return math.exp(-5.0 * left * left)


def linear_rampup(current: float, rampup_length: float) -> float:
    """From 0 to 1 over `rampup_length` steps."""
    if rampup_length <= 0:
        raise ValueError(f"rampup_length is above 0, not {rampup_length}")
    return min(max(current / rampup_length, 0.0), 1.0)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """The parameters of `ema_model` go a part 1 - alpha of the way to those of `model`."""
    for average, value in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.mul_(alpha).add_(value, alpha=1 - alpha)
