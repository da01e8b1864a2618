"""Features of frozen towers on the disk: an image goes through a tower once, whichever run asks for it.

Features of one tower, computed in one way, share a folder.  A file in it holds rows and their keys and is never
changed: what is missing is computed and added as a new file.  So runs side by side need no lock (at worst both add the
same image), and a killed run loses no more than the file it was about to write.  Files that were used longest ago go
first where the cache outgrows its limit.

Axes: N images, E joint embedding.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cilmp.errors import UserError
from cilmp.files import cache_folder, leftovers, write_bytes

KEY = 16  # bytes of an image's key
ABANDONED = 24 * 3600  # seconds after which a partial file is a killed run's


def default_folder() -> Path:
    return cache_folder() / "features"


def fingerprint(tower: nn.Module) -> str:
    """SHA-256 of a module's weights, their precision, and the settings of its layers."""
    digest = hashlib.sha256(repr(tower).encode())
    for name, module in tower.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, tuple)) and k != "training"}
        digest.update(f"{name} {sorted(plain.items())}".encode())
    for name, value in tower.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def image_key(path: str, *seen: object) -> bytes:
    """Of an image file as it is now (path, size, time of change), and of how it is seen: pixels, augmentation."""
    try:
        found = os.stat(path)
        state = found.st_size, found.st_mtime_ns
    except OSError:  # whoever reads the image says so
        state = -1, -1
    return hashlib.sha256(repr((os.path.abspath(path), *state, *seen)).encode()).digest()[:KEY]


class FeatureCache:
    def __init__(self, root: Path, made_by: Mapping[str, object], limit: int):
        """root: folder of all caches.  made_by: what features depend on besides the image.  limit: bytes below root;
        0: nothing is kept and nothing found."""
        self.root, self.limit = root, limit
        self.folder = root / hashlib.sha256(repr(sorted(made_by.items())).encode()).hexdigest()[:32]

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """{key: (E,)} of those that are there."""
        wanted, found = set(keys), {}
        for path in self.folder.glob("*.safetensors") if self.limit else ():
            if not wanted:
                break
            try:
                with safe_open(path, "pt") as file:
                    kept = [bytes(key) for key in file.get_tensor("keys").numpy()]
                    if here := {key: i for i, key in enumerate(kept) if key in wanted}:
                        rows = file.get_tensor("rows")
                        found.update({key: rows[i].clone() for key, i in here.items()})
                        wanted -= here.keys()
                        os.utime(path)
            except FileNotFoundError:  # another run has just made room
                continue
            except (OSError, SafetensorError):  # damaged: computed again
                discard(path)
        return found

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """rows (N, E) on the CPU.  A folder that cannot be written to is told once and done without."""
        if not self.limit or not keys:
            return
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, KEY)
        name = hashlib.sha256(table.numpy()).hexdigest()[:32]
        try:
            write_bytes(self.folder / f"{name}.safetensors", save({"keys": table, "rows": rows.contiguous()}))
        except UserError as error:
            print(f"Features are computed anew in every run: {error}")
            self.limit = 0
            return
        self.make_room()

    def make_room(self) -> None:
        files = []
        for path in self.root.glob("*/*.safetensors"):
            with contextlib.suppress(OSError):
                state = path.stat()
                files.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            discard(path)
            total -= size
        for path in leftovers(self.root):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    discard(path)


def discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
