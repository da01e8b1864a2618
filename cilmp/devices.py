"""Which device a command uses where the user names none, full precision on any, and a CPU's memory."""

from __future__ import annotations

import ctypes
import platform
from contextlib import AbstractContextManager, nullcontext

import torch

from cilmp import system
from cilmp.errors import UserError


def choose(name: str = "", accelerate: bool = True) -> torch.device:
    """The named device, else CUDA, else Apple's GPU, else the CPU; accelerate False: the CPU.

    Raises UserError for a device that does not exist here.
    """
    if not name:
        there = [kind for kind in ("cuda", "mps") if accelerate and available(kind)]
        return torch.device((*there, "cpu")[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"No device '{name}': use cpu, cuda, cuda:<number> or mps.") from None
    if not available(device.type) or device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"No device '{name}' here: PyTorch sees {seen()}; use --device cpu.")
    return device


def exactly(device: torch.device) -> AbstractContextManager[object]:
    """Without autocast, on a device that has it."""
    try:
        return torch.autocast(device.type, enabled=False)
    except RuntimeError:
        return nullcontext()


def keep_memory(device: torch.device) -> None:
    """On a CPU this process holds on to memory it frees, for the next step.

    glibc gives large blocks back and fetches them again page by page: a tenth of a training step with 100 classes
    (benchmarks/NOTES.md).  Where malloc is not glibc's nothing happens.
    """
    if device.type == "cpu" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX 0: no block apart; M_TRIM_THRESHOLD -1: never shrink
            libc.mallopt(option, value)


def peak_memory_mb(device: torch.device) -> float | None:
    """The most this process has held: of the GPU's memory on one, else of the machine's; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = system.peak_memory()
    return None if peak is None else peak / 2**20


def available(kind: str) -> bool:
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind != "cuda" or torch.cuda.is_available()


def seen() -> str:
    count = torch.cuda.device_count()
    return f"{count} GPU{'s' if count != 1 else ''}" if count else "no GPU"
