"""The GPUs of this machine, asked of other processes: one that has asked CUDA itself can no longer fork."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import takewhile

from cilmp.errors import UserError

PATIENCE = 60  # seconds; nvidia-smi hangs where the driver does


def visible() -> list[str]:
    """Their ids, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = os.environ["CUDA_VISIBLE_DEVICES"].replace(",", " ").split()
        return list(takewhile(lambda name: name[0].isdigit() or name.startswith(("GPU-", "MIG-")), named))
    return [name for name in listed() if name.isdigit()]


def listed() -> list[str]:
    """What nvidia-smi lists, numbers and UUIDs; nothing where there is none."""
    if not shutil.which("nvidia-smi"):
        return []
    said = output("nvidia-smi", "-L")
    return re.findall(r"^GPU (\d+):", said, re.M) + re.findall(r"UUID: ([\w/-]+)", said)


def counted() -> int:
    """As PyTorch counts them, whose GPUs need not be NVIDIA's."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    said = output(sys.executable, "-c", "import torch; print(torch.cuda.device_count())", env=environment)
    return int(said) if said.strip().isdigit() else 0


def output(*command: str, env: dict[str, str] | None = None) -> str:
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env, timeout=PATIENCE
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def check(asked: Sequence[str]) -> None:
    """UserError for a GPU that is not there: its runs would take the CPU and say nothing."""
    known = (listed() or [str(number) for number in range(counted())]) if asked else []
    for name in asked:
        if not any(name == other or not name.isdigit() and other.startswith(name) for other in known):
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise UserError(f"--gpus (or GPUS) cannot be '{name}' on this machine: {there}; '' takes the CPU.")
