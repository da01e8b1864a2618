"""What identifies an image: a hash of its pixels, and a perceptual hash that survives re-encoding and resizing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from cilmp.errors import UserError
from cilmp.images import explain, read_image

SIDE = 16  # the perceptual hash has SIDE * SIDE bits
NEAR = (
    20  # bits of 256 in which a copy at half the size or JPEG quality 20 differs (docs/data.md); others in 60 and more
)


class Fingerprint(NamedTuple):
    pixels: bytes  # SHA-1 of size and RGB values; b"" where the image cannot be read
    perceptual: bytes  # 32 bytes
    problem: str


def fingerprint(path: str) -> Fingerprint:
    import imagehash

    try:
        image = read_image(path)
    except UserError as error:
        return Fingerprint(b"", bytes(SIDE * SIDE // 8), explain(error))
    pixels = hashlib.sha1(str(image.size).encode() + image.tobytes()).digest()
    bits = imagehash.phash(image, hash_size=SIDE).hash
    return Fingerprint(pixels, np.packbits(bits).tobytes(), "")


def fingerprints(paths: list[str], title: str = "Hashing") -> list[Fingerprint]:
    """Of all images, decoded in one process a core; UserError where the library is missing."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise UserError("Looking for duplicates needs imagehash: pip install imagehash.") from None
    from tqdm import tqdm

    bar = partial(tqdm, desc=title, total=len(paths), unit="image", disable=None)
    if len(paths) < 500:  # sooner done than processes are started
        return [fingerprint(path) for path in bar(paths)]
    with ProcessPoolExecutor(cores()) as pool:
        return list(bar(pool.map(fingerprint, paths, chunksize=32)))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def near_pairs(prints: list[Fingerprint], near: int = NEAR, block: int = 64) -> Iterator[tuple[int, int, int]]:
    """Pairs (i, j, differing bits) with i < j whose perceptual hashes differ in at most `near` bits.

    Flat images (one colour) all have one hash and tell nothing: they are left out.
    """
    hashes = np.frombuffer(b"".join(p.perceptual for p in prints), np.uint64).reshape(len(prints), -1)  # (N, 4)
    varied = np.array([bin(int.from_bytes(p.perceptual, "big")).count("1") > near for p in prints])
    index = np.flatnonzero(varied)
    hashes = hashes[index]
    for start in range(0, len(index), block):
        rows = hashes[start : start + block]
        bits = sum(ones(rows[:, None, word] ^ hashes[None, start:, word]) for word in range(hashes.shape[1]))
        for i, j in zip(*np.nonzero(bits <= near), strict=True):
            if j > i:
                yield int(index[start + i]), int(index[start + j]), int(bits[i, j])


_BYTE = np.array([bin(i).count("1") for i in range(256)], np.uint8)


def ones(words: np.ndarray) -> np.ndarray:
    """Set bits of each 64-bit word."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words).astype(np.uint16)
    return _BYTE[words.view(np.uint8)].reshape(*words.shape, 8).sum(-1, dtype=np.uint16)
