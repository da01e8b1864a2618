"""Zips of a download: looked into, and in one line what did not arrive whole."""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cilmp.datasets import splits
from cilmp.errors import UserError, brief


@contextmanager
def telling(name: str) -> Iterator[None]:
    """What goes wrong while `name` is unpacked, as a UserError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{name} is damaged or cut off ({error}): fetch it again.") from None
    except NotImplementedError as error:
        raise UserError(
            f"{name} is packed as Python cannot read it ({error}): unpack it and name the folder."
        ) from None


def opened(file: Path | BinaryIO, name: str) -> zipfile.ZipFile:
    with telling(name):
        return zipfile.ZipFile(file)


def entries(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """(path with /, entry) of each file, in alphabetical order.  UserError for a password and paths that lead out."""
    files = sorted(
        ((plain(info.filename), info) for info in archive.infolist() if not info.is_dir()), key=lambda x: x[0]
    )
    locked = [path for path, info in files if info.flag_bits & 1]
    if locked:
        raise UserError(f"{name} is encrypted: unpack it with its password and name the folder as --source.")
    outside = [path for path, _ in files if not splits.inside(path)]
    if outside:
        raise UserError(
            f"{name} holds {len(outside)} files whose paths lead out of it ({brief(outside, 3)}): it was not made by a "
            "sound program. Unpack it yourself, look at what these are, and name the folder as --source."
        )
    yield from files


def plain(path: str) -> str:
    """Some programs write \\ between folders, or ./ before them."""
    return "/".join(part for part in re.split(r"[/\\]", path) if part != ".")
