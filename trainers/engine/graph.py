"""A training step that the host launches once: its kernels are captured in a CUDA graph, which every step replays.

A step of prompt learning is thousands of small kernels, and a host needs longer to launch them than a GPU to run them
(benchmarks/NOTES.md).  A replay runs the same kernels with the same draws of dropout: its numbers are the eager ones.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from cilmp.errors import UserError
from cilmp.trainers.engine import parallel
from cilmp.trainers.engine.loading import undrawn

WARM = 3  # steps ahead of a capture, in which libraries set themselves up
PAYS = 20  # a run of fewer steps ends sooner without the capture

Step = Callable[[Tensor, Tensor], tuple[Mapping[str, Tensor], Tensor]]  # leaves gradients in the parameters


def wanted(mode: str, device: torch.device, steps: int, steady: bool = True) -> bool:
    """mode: TRAIN.CUDA_GRAPH.  steps: those ahead.  steady: do their losses depend on tensors alone?  UserError where
    the user asks for what cannot be."""
    if mode == "on" and device.type != "cuda":
        raise UserError(f"TRAIN.CUDA_GRAPH is on and this run is on {device.type}: leave it out, or set it to auto.")
    if mode == "on" and parallel.size() > 1:
        raise UserError("TRAIN.CUDA_GRAPH is on and this run has several processes: leave it out, or set it to auto.")
    alone = device.type == "cuda" and parallel.size() == 1
    return mode == "on" or mode == "auto" and alone and steady and steps >= PAYS


def of_this_house(trainer) -> bool:
    """Are trainer and method?  Of others nobody knows what they compute in Python, which a replay would not."""
    return all(type(part).__module__.startswith("cilmp.") for part in (trainer, trainer.model))


class Replayed:
    """A step, captured at its first call with the shapes found there; of other shapes it is launched as ever.

    What it returns holds until the next call, and so do the gradients.  model: what the step computes with; where
    `look` finds that a setting of it in Python has changed, which a graph would not see, steps are launched as ever.
    """

    def __init__(self, step: Step, model: nn.Module):
        self.step, self.model = step, model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.tried = False

    def __call__(self, image: Tensor, label: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        if not self.tried:
            self.tried = True
            self.capture(image, label)
        if self.graph is None or image.shape != self.image.shape:
            return self.step(image, label)
        self.image.copy_(image)
        self.label.copy_(label)
        self.graph.replay()
        for parameter, slope in zip(self.parameters, self.slopes, strict=True):
            parameter.grad = slope  # an eager step in between would have put its own there
        return self.result

    def look(self) -> None:
        """Whether the settings are still those of the capture; it takes milliseconds, and an epoch asks once."""
        if self.graph is not None and settings(self.model) != self.settings:
            print("The method's settings have changed: steps are launched kernel by kernel (TRAIN.CUDA_GRAPH)")
            self.graph = None

    def capture(self, image: Tensor, label: Tensor) -> None:
        """No graph where a step waits for the device, in which a capture would end with an error, or where it draws on
        the host or counts in Python, which a replay would not; either is told."""
        self.image, self.label, self.settings = image.clone(), label.clone(), settings(self.model)
        drawn, host = torch.cuda.get_rng_state(image.device), drawn_on_the_host()
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        aside = torch.cuda.Stream(image.device)
        aside.wait_stream(torch.cuda.current_stream(image.device))
        against = ""
        with torch.cuda.stream(aside), undrawn():
            for _ in range(WARM):
                self.step(self.image, self.label)
            try:
                with never_waiting():
                    self.step(self.image, self.label)
            except RuntimeError as error:
                if "synchronizing" not in str(error):
                    raise
                against = "waits for the GPU"
            if drawn_on_the_host() != host:
                against = "draws random numbers on the CPU"
            elif settings(self.model) != self.settings:
                against = "changes settings of its method"
            for buffer, before in buffers:
                buffer.copy_(before)
        torch.cuda.current_stream(image.device).wait_stream(aside)
        torch.cuda.set_rng_state(drawn, image.device)
        if against:
            print(f"This step {against} and is launched kernel by kernel (TRAIN.CUDA_GRAPH)")
            return
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may be pinning memory
                self.result = self.step(self.image, self.label)
        except RuntimeError as error:  # what ends a capture hides what went wrong in it
            why = str(error.__context__ or error).strip().splitlines()[0].rstrip(".")
            raise UserError(f"A training step cannot be captured ({why}): set TRAIN.CUDA_GRAPH off.") from None
        self.slopes = [parameter.grad for parameter in self.parameters]
        self.graph = graph
        print("Training steps are replayed from a CUDA graph (TRAIN.CUDA_GRAPH)")


def settings(model: nn.Module) -> list:
    """Numbers and words that modules hold in Python, train or eval aside."""
    plain = (int, float, str)
    return [
        (key, value)
        for module in model.modules()
        for key, value in vars(module).items()
        if isinstance(value, plain) and key != "training"
    ]


def drawn_on_the_host() -> tuple:
    """The states of its random generators, to be compared."""
    _, keys, position, *_ = np.random.get_state()
    return random.getstate(), keys.tolist(), position, torch.default_generator.get_state().tolist()


@contextmanager
def never_waiting() -> Iterator[None]:
    """Inside, whatever makes the host wait for the GPU is a RuntimeError: `.item()`, a copy to the CPU, `nonzero`."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls it a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
