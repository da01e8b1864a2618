"""Which device is chosen; a wrong one is named."""

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
