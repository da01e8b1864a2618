"""The one way a file is written: whole or not at all, through a neighbour and a rename."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cilmp.errors import UserError

MEND = "check the path"


def cache_folder() -> Path:
    """Where files lie that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cilmp"


@contextmanager
def replacing(path: str | os.PathLike[str], mend: str = MEND) -> Iterator[Path]:
    """A neighbour's path to write to; it takes the name of `path` when the block ends, else the old file stays.

    UserError, which ends in `mend`, where it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"Cannot write {path} ({error.strerror or error}): {mend}.") from None
    finally:
        with contextlib.suppress(OSError):  # the place is gone, and with it the file
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str], mode: str = "w", mend: str = MEND) -> Iterator[IO[Any]]:
    """The same as an open file, which is on the disk before it takes its name.

    mode: "w" (UTF-8, newlines as written) or "wb".
    """
    text: dict[str, Any] = {} if "b" in mode else dict(encoding="utf-8", newline="")
    with replacing(path, mend) as partial, partial.open(mode, **text) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Neighbours that killed processes left below a folder which nobody else writes to."""
    return [path for path in Path(folder).rglob(".*.tmp") if re.fullmatch(r"\..+\.\d+\.tmp", path.name)]


def need_place(folder: str | os.PathLike[str], mend: str = MEND) -> None:
    """Make a folder; UserError, which ends in `mend`, where no file can be written to it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"Cannot write to {folder} ({error.strerror or error}): {mend}.") from None


def write_text(path: str | os.PathLike[str], text: str, mend: str = MEND) -> Path:
    with writing(path, mend=mend) as file:
        file.write(text)
    return Path(path)


def write_bytes(path: str | os.PathLike[str], content: bytes, mend: str = MEND) -> Path:
    with writing(path, "wb", mend) as file:
        file.write(content)
    return Path(path)


def sha256(path: Path | None) -> str:
    """Of a file's content; '' where there is none."""
    try:
        state = path.stat() if path else None
    except OSError:
        return ""
    return _sha256(path, state.st_size, state.st_mtime_ns) if path and path.is_file() else ""


@functools.lru_cache(maxsize=256)  # a sweep asks for the same few files again and again
def _sha256(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
