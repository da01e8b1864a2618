import torch
from torch import Tensor


def mixup(
    x1: Tensor, x2: Tensor, y1: Tensor, y2: Tensor, beta: float, preserve_order: bool = False
) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and their soft labels (B, N), mixed by a Beta(beta, beta) weight each.

    preserve_order: the first keeps the larger part.
    """
    weight = torch.distributions.Beta(beta, beta).sample((len(x1), 1, 1, 1))
    if preserve_order:
        weight = torch.max(weight, 1 - weight)
    weight = weight.to(x1.device)
    flat = weight[:, :, 0, 0]
    return x1 * weight + x2 * (1 - weight), y1 * flat + y2 * (1 - flat)
