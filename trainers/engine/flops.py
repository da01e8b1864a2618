"""Floating-point operations of a method, counted by torch.utils.flop_counter as they are dispatched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.backends import cuda
from torch.utils.flop_counter import FlopCounterMode

from cilmp.trainers.method import Method


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Attention as matrix products: the counter does not know the CPU's fused kernel and would count it as nothing."""
    before = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled()  # these switches hold on a CPU too
    cuda.enable_flash_sdp(False)
    cuda.enable_mem_efficient_sdp(False)
    try:
        yield
    finally:
        cuda.enable_flash_sdp(before[0])
        cuda.enable_mem_efficient_sdp(before[1])


def counted(step: Callable[[], object], model: nn.Module, train: bool) -> int:
    """Of a step on a model, forward alone or, to train, with its backward; gradients stay as they are."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(train)  # the counter trips over parameters that want gradients where none are taken
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train), plain_attention():
        step()
    for p in trained:
        p.requires_grad_(True)
    return counter.get_total_flops()


def count(model: Method, seen: Tensor, train: bool) -> int:
    """Of a forward pass in which the class prompts are encoded, or of a training step: forward and backward.

    seen: images (B, 3, R, R), or features (B, E) where the method reads those.
    """
    model.train(train)
    label = torch.zeros(len(seen), dtype=torch.long, device=seen.device)

    def step() -> None:
        if train:
            sum(model.losses(seen, label)[0].values()).backward()
        else:
            model(seen)

    found = counted(step, model, train)
    model.zero_grad()
    return found


def cost(model: Method, steps: str) -> dict[str, float | None]:
    """GFLOP of one image: `forward`, and of it in a training `step`, None where nothing is trained in steps.

    steps: what a step reads, as its trainer says: images, features, or nothing.
    """
    resolution, place = model.clip.resolution, next(model.clip.parameters()).device
    image = torch.zeros(1, 3, resolution, resolution, device=place)
    seen = {"images": image, "features": image.new_zeros(1, model.clip.embed)}.get(steps)
    found: dict[str, float | None] = {"forward": count(model, image, train=False) / 1e9, "step": None}
    if seen is not None and any(p.requires_grad for p in model.parameters()):
        found["step"] = count(model, seen, train=True) / 1e9
    return found
