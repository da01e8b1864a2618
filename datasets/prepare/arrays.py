"""Arrays of an .npz: small ones whole, images one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from cilmp.datasets.prepare.archives import telling
from cilmp.errors import UserError


def whole(file: BinaryIO, member: str, name: str) -> np.ndarray:
    """An array as numpy reads it; nothing pickled."""
    with telling(member):
        try:
            with np.load(file) as arrays:
                return arrays[name]
        except KeyError:
            raise UserError(f"{member} has no array {name}: is this a file of MedMNIST?") from None
        except ValueError as error:
            raise UserError(f"{member}: the array {name} cannot be read ({error}).") from None


class Stack:
    """Images (N, H, W) or (N, H, W, 3) of 8 bits, read forward as they are asked for: memory for one image.

    An array in columns (Fortran order), where no image lies in one piece, is read whole.
    """

    def __init__(self, start: Callable[[], BinaryIO], member: str, name: str):
        self.start, self.member, self.name = start, member, name
        self.array: np.ndarray | None = None
        self.rewind()
        height, *channels = self.shape[2:3], *self.shape[3:]
        if self.dtype != np.uint8 or len(height) != 1 or channels not in ([], [3]):
            raise UserError(
                f"{member}: {name} is {self.dtype} {self.shape}, not uint8 images (N, H, W) or (N, H, W, 3)."
            )

    def rewind(self) -> None:
        with telling(self.member):
            archive = zipfile.ZipFile(self.start())
            if f"{self.name}.npy" not in archive.namelist():
                raise UserError(f"{self.member} has no array {self.name}: is this a file of MedMNIST?")
            self.file, self.next = archive.open(f"{self.name}.npy"), 0
            version = np.lib.format.read_magic(self.file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, self.columns, self.dtype = read(self.file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        if self.columns:
            if self.array is None:
                self.array = whole(self.start(), self.member, self.name)
            return np.ascontiguousarray(self.array[index])
        if index < self.next:
            self.rewind()
        size = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with telling(self.member):
            while self.next < index:
                self.file.read(size)
                self.next += 1
            self.next += 1
            pixels = self.file.read(size)
        if len(pixels) < size:
            raise UserError(f"{self.member} is damaged or cut off ({self.name} ends early): fetch it again.")
        return np.frombuffer(pixels, self.dtype).reshape(self.shape[1:])
