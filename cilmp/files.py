"""The one way a file is written: whole or not at all, through a neighbour and a rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cilmp.errors import UserError

MEND = "check the path"


@contextmanager
def replacing(path: str | os.PathLike, mend: str = MEND) -> Iterator[Path]:
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
def writing(path: str | os.PathLike, mode: str = "w", mend: str = MEND) -> Iterator[IO[Any]]:
    """The same as an open file, which is on the disk before it takes its name.

    mode: "w" (UTF-8, newlines as written) or "wb".
    """
    text: dict = {} if "b" in mode else dict(encoding="utf-8", newline="")
    with replacing(path, mend) as partial, partial.open(mode, **text) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: str | os.PathLike, text: str, mend: str = MEND) -> Path:
    with writing(path, mend=mend) as file:
        file.write(text)
    return Path(path)


def write_bytes(path: str | os.PathLike, content: bytes, mend: str = MEND) -> Path:
    with writing(path, "wb", mend) as file:
        file.write(content)
    return Path(path)
