"""Gaussian average of prompts over the epochs (PromptSRC, Khattak et al. 2023, arXiv 2307.06948, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class GaussianAverage(nn.Module):
    """sum_e w_e theta_e with w_e ~ N(e; mean, std), e = 1..epochs, the weights summing to one.

    A module with buffers, so that the running sum is saved with the run and a resumed run ends in the same numbers.
    Only what is learned is averaged: the reference averages the frozen fp16 weights too, which perturbs them.
    """

    def __init__(self, parameters: Mapping[str, Tensor], mean: float, std: float, epochs: int):
        super().__init__()
        e = torch.arange(1, epochs + 1, dtype=torch.float64)
        self.weights = (-0.5 * ((e - mean) / std) ** 2).softmax(0).tolist()  # not on the device: MPS knows no float64
        for name, value in parameters.items():
            self.register_buffer(name.replace(".", "/"), torch.zeros_like(value))

    @torch.no_grad()
    def add(self, parameters: Mapping[str, Tensor], epoch: int) -> None:
        """Take in the values at the end of an epoch, counted from 1."""
        weight = self.weights[epoch - 1]
        for name, value in parameters.items():
            getattr(self, name.replace(".", "/")).add_(value, alpha=weight)

    @torch.no_grad()
    def load_into(self, parameters: Mapping[str, Tensor]) -> None:
        for name, value in parameters.items():
            value.copy_(getattr(self, name.replace(".", "/")))
