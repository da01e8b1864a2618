"""Which device is chosen; a wrong one is named."""

import platform
import subprocess
import sys

import pytest
import torch

from cilmp.devices import choose
from cilmp.errors import UserError


@pytest.mark.parametrize(
    ("cuda", "mps", "accelerate", "expected"),
    [(True, True, True, "cuda"), (False, True, True, "mps"), (False, False, True, "cpu"), (True, True, False, "cpu")],
)
def test_default(monkeypatch, cuda, mps, accelerate, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose(accelerate=accelerate).type == expected


def test_named(monkeypatch):
    assert choose("cpu").type == "cpu"
    with pytest.raises(UserError, match="No device 'gpu'"):
        choose("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose("cuda:1").index == 1
    with pytest.raises(UserError, match="'cuda:2' here: PyTorch sees 2 GPUs"):
        choose("cuda:2")


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_kept_memory_is_used_again():
    script = """
import resource, sys, torch
from cilmp.devices import keep_memory
if sys.argv[1] == "keep":
    keep_memory(torch.device("cpu"))
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(1 << 24) for _ in range(4)]  # 64 MB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([step() for _ in range(10)][-1])
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "default")
    }
    assert faults["keep"] * 10 < faults["default"]
