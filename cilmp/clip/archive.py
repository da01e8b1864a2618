"""The tensors of a TorchScript archive, read without running anything of it.

OpenAI publishes CLIP as TorchScript.  `torch.jit.load` would run the code a foreign archive brings along; here the zip
is opened, and of its pickle only plain values, tensors and the tree of modules are built.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_archive(path: Path) -> bool:
    """Is it TorchScript's, and not a plain torch file?"""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def state_dict(path: Path) -> dict[str, Tensor]:
    """Every parameter and buffer by its dotted name."""
    with zipfile.ZipFile(path) as archive:
        [member] = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        root = member.removesuffix("data.pkl")
        module = Reader(io.BytesIO(archive.read(member)), archive, root).load()
    return dict(tensors(module))


def tensors(module: Module, prefix: str = ""):
    """(dotted name, tensor) of a module and those inside it."""
    for name, value in vars(module).items():
        if isinstance(value, Module):
            yield from tensors(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield prefix + name, value


class Module:
    """Stands for any class of the archive: its attributes and nothing else."""

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


class Reader(pickle.Unpickler):
    """Knows modules, tensors and lists; whatever else a pickle asks for is refused."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str):
        super().__init__(file)
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {"torch._utils._rebuild_tensor_v2": rebuild, "collections.OrderedDict": OrderedDict}
        if module == "torch.jit._pickle" and name.startswith("build_") and name.endswith("list"):
            return list
        if f"{module}.{name}" in known:
            return known[f"{module}.{name}"]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, pid: tuple) -> Tensor:
        _, dtype, key, _, count = pid
        content = bytearray(self.archive.read(f"{self.root}data/{key}"))
        return torch.frombuffer(content, dtype=dtype)[:count] if count else torch.empty(0, dtype=dtype)


def rebuild(storage: Tensor, offset: int, size: tuple, stride: tuple, *rest: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def mentions(path: Path, words: bytes) -> bool:
    """Do the words stand in the archive's code, which is read and not run?"""
    with zipfile.ZipFile(path) as archive:
        return any(words in archive.read(name) for name in archive.namelist() if name.endswith(".py"))
