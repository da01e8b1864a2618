"""From an image file of any kind to 8-bit RGB, and images found unreadable before a run instead of in it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from cilmp.datasets.splits import brief
from cilmp.errors import UserError

THREADS = 8


def problem(path: str) -> str:
    """Why an image cannot be read, or ''.  Looks at its header and end; decodes only what looks cut off.

    About 0.1 ms an image where a decode takes 1 to 20 ms.  A PNG's checksums cover all of it; damage in the middle of
    a JPEG shows as a grey patch at worst, in every decoder.
    """
    try:
        with Image.open(path) as image:
            kind = image.format
            if kind == "PNG":
                image.verify()
                return ""
            if kind != "JPEG" or not ends_whole(path):
                image.load()
    except Exception as error:  # decoders fail in many ways
        return f"{type(error).__name__}: {error}"
    return ""


def ends_whole(path: str) -> bool:
    """Does a JPEG hold its end marker near its end?"""
    with open(path, "rb") as file:
        file.seek(-min(64, os.path.getsize(path)), os.SEEK_END)
        return b"\xff\xd9" in file.read()


def require_readable(paths: list[str]) -> None:
    """UserError that counts and names the unreadable ones."""
    with ThreadPoolExecutor(THREADS) as pool:
        problems = {path: why for path, why in zip(paths, pool.map(problem, paths), strict=True) if why}
    if problems:
        first = [f"{path} ({why})" for path, why in list(problems.items())[:3]]
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{len(problems)} of {len(paths)} images cannot be read: {brief(first)}{more}. Fetch them again or take "
            "them out of the split file."
        )
