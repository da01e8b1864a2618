"""What MixStyle and EFDMix share: when they act, with which partners, and the switches over a whole model."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Mixing(nn.Module):
    """In training, with probability p, each image's features take on something of another's in the batch."""

    def __init__(self, p: float = 0.5, alpha: float = 0.1, eps: float = 1e-6, mix: str = "random"):
        """alpha: an image's weight on itself is Beta(alpha, alpha).  mix: 'random', or 'crossdomain' for a batch whose
        halves are of two domains."""
        super().__init__()
        self.p, self.alpha, self.eps, self.mix = p, alpha, eps, mix
        self.beta = torch.distributions.Beta(alpha, alpha)
        self._activated = True

    def extra_repr(self) -> str:
        return f"p={self.p}, alpha={self.alpha}, eps={self.eps}, mix={self.mix}"

    def set_activation_status(self, status: bool = True) -> None:
        self._activated = status

    def update_mix_method(self, mix: str = "random") -> None:
        self.mix = mix

    def partners(self, count: int) -> Tensor:
        """The index of each image's partner."""
        if self.mix == "random":
            return torch.randperm(count)
        if self.mix != "crossdomain":
            raise NotImplementedError(f"mix is 'random' or 'crossdomain', not '{self.mix}'")
        halves = torch.arange(count - 1, -1, -1).chunk(2)  # the second half comes first
        return torch.cat([half[torch.randperm(len(half))] for half in halves])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), and so the result."""
        if not (self.training and self._activated) or random.random() > self.p:
            return x
        weight = self.beta.sample((len(x), 1, 1, 1)).to(x.device)
        return self.mixed(x, weight, self.partners(len(x)))

    def mixed(self, x: Tensor, weight: Tensor, partner: Tensor) -> Tensor:
        """weight (B, 1, 1, 1) of each image on itself; partner (B,)."""
        raise NotImplementedError


class Switches(NamedTuple):
    """Two contexts over a model, and what model.apply() takes."""

    run_with: Callable[..., AbstractContextManager]
    run_without: Callable[..., AbstractContextManager]
    activate: Callable[[nn.Module], None]
    deactivate: Callable[[nn.Module], None]
    random: Callable[[nn.Module], None]
    crossdomain: Callable[[nn.Module], None]


def switches(kind: type[Mixing]) -> Switches:
    """The switches of all modules of one kind."""

    def switch(method: str, value) -> Callable[[nn.Module], None]:
        def act(module: nn.Module) -> None:
            if type(module) is kind:
                getattr(module, method)(value)

        return act

    on, off = switch("set_activation_status", True), switch("set_activation_status", False)
    ways = {mix: switch("update_mix_method", mix) for mix in ("random", "crossdomain")}

    @contextmanager
    def run_with(model: nn.Module, mix: str | None = None) -> Iterator[None]:
        """On inside, off behind; mix: which way, from here on."""
        if mix in ways:
            model.apply(ways[mix])
        model.apply(on)
        try:
            yield
        finally:
            model.apply(off)

    @contextmanager
    def run_without(model: nn.Module) -> Iterator[None]:
        """Off inside, on behind."""
        model.apply(off)
        try:
            yield
        finally:
            model.apply(on)

    return Switches(run_with, run_without, on, off, **ways)
