"""From an image file of any kind to 8-bit RGB, and images found unreadable before a run instead of in it.

- palette, CMYK, 1-bit, greyscale: as Pillow converts them to RGB;
- transparency: laid on black, which is the background of a scan;
- more than 8 bits, in one channel or three (PNG, TIFF): stretched from the image's own least and greatest value to
  0..255, except where all values are integers that already lie in 0..255; floats are always stretched;
- DICOM (needs pydicom): rescale slope and intercept, then the stored VOI LUT or first window, which settles what is
  black and white, else stretched as above; MONOCHROME1 inverted; colours as RGB;
- the first frame or page of several.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from cilmp import dicom
from cilmp.errors import UserError, brief

THREADS = 8
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")
EXTENSIONS += (".dcm", ".dicom")


class Unreadable(UserError):
    """An image that cannot be read, in one line that names it.

    A DataLoader raises a worker's error again with the worker's traceback as the message: what it ends in is kept.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split("Unreadable: ")[-1].split()))


def read_image(source: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """A file, or an image in memory, as 8-bit RGB; Unreadable, a UserError, names one which cannot be read."""
    try:
        if isinstance(source, Image.Image):
            return rgb(source)
        with opened(source) as file:
            return decode(file)
    except Exception as error:  # decoders fail in many ways
        raise Unreadable(f"Cannot read the image {source} ({explain(error)}).") from None


def explain(error: Exception) -> str:
    """One line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a kind that is known"
    return " ".join((str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}").split())


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A FIFO or a device is not opened: it may never answer."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UserError("it is not a file but a folder, FIFO, socket or device")
    return open(path, "rb")


def decode(file: BinaryIO) -> Image.Image:
    """From an open file that can seek."""
    if dicom.is_dicom(file):
        return visible(dicom.values(file))
    with Image.open(file) as image:
        require_end(image, file)
        if (layout := SIXTEEN.fullmatch(rawmode(image))) is not None:
            return visible(sixteen_bits(image, file, *layout.groups()))
        return rgb(image)


def rgb(image: Image.Image) -> Image.Image:
    """UserError where Pillow would drop half of each value: what follows from a file must follow from its image."""
    if SIXTEEN.fullmatch(rawmode(image)):
        raise UserError("it has channels of 16 bits, of which an opened image keeps 8: give the path of its file")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return visible(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def visible(values: np.ndarray) -> Image.Image:
    """(H, W) or (H, W, 3) of any range -> RGB."""
    whole = np.issubdtype(values.dtype, np.integer) and values.min() >= 0 and values.max() <= 255
    return Image.fromarray(values.astype(np.uint8) if whole else stretched(values)).convert("RGB")


def stretched(values: np.ndarray) -> np.ndarray:
    """From the least and greatest finite value to 0..255; black where there is but one, and where there is none."""
    values = values.astype(np.promote_types(values.dtype, np.float32))
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low == high:
        return np.zeros(values.shape, np.uint8)
    values = np.nan_to_num(np.clip(values, low, high), nan=low)
    return ((values - low) * (255 / (high - low))).round().astype(np.uint8)


SIXTEEN = re.compile("(RGBA?|RGBX|LA);16([BLN])")


def rawmode(image: Image.Image) -> str:
    """How Pillow will read the file's pixels: RGB;16B are three channels of 16 bits, the upper byte first."""
    args = image.tile[0][3] if getattr(image, "tile", None) else ""
    name = args[0] if isinstance(args, tuple) and args else args
    return name if isinstance(name, str) else ""


def sixteen_bits(image: Image.Image, file: BinaryIO, channels: str, order: str) -> np.ndarray:
    """(H, W, 3), uint16, on black.  Pillow keeps the upper bytes alone: read again in the other order for the lower."""
    if channels == "LA":  # read as four bytes: those of the grey and those of the alpha
        high, low = np.moveaxis(read_as(file, "RGBA").reshape(*image.size[::-1], 2, 2), -1, 0)
        high, low = (np.concatenate([x[..., :1].repeat(3, -1), x[..., 1:]], -1) for x in (high, low))
    else:
        native = "L" if sys.byteorder == "little" else "B"
        other = {"B": "L", "L": "B"}[native if order == "N" else order]
        high, low = np.asarray(image), read_as(file, f"{channels};16{other}")
    values = high.astype(np.uint16) << 8 | low
    if values.shape[-1] == 4:
        values = (values[..., :3].astype(np.uint32) * values[..., 3:] // 65535).astype(np.uint16)
    return values


def read_as(file: BinaryIO, rawmode: str) -> np.ndarray:
    file.seek(0)
    with Image.open(file) as image:
        image.tile = [
            (codec, extents, offset, (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode)
            for codec, extents, offset, args in image.tile
        ]
        return np.asarray(image)


def problem(path: str) -> str:
    """Why an image cannot be read, or ''; `damage` of a file by path."""
    try:
        with opened(path) as file:
            return damage(file)
    except Exception as error:
        return explain(error)


def damage(file: BinaryIO) -> str:
    """Why an image cannot be read, or ''.  Looks at its header and end; decodes only what neither tells of.

    A quarter to half a millisecond an image where a decode takes 1 to 40 (benchmarks/reading.py).  A PNG's checksums
    cover all of it; damage in the middle of a JPEG shows as a grey patch at worst, in every decoder.
    """
    try:
        if dicom.is_dicom(file):
            decode(file)
            return ""
        with Image.open(file) as image:
            require_end(image, file)
            if image.format == "PNG":
                image.verify()
            elif image.format != "JPEG":
                image.load()
    except Exception as error:  # decoders fail in many ways
        return explain(error)
    return ""


def require_end(image: Image.Image, file: BinaryIO) -> None:
    """UserError for a JPEG without its end: a decoder fills the rest with grey and says nothing."""
    if image.format not in ("JPEG", "MPO"):
        return
    here, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(-min(64, size), os.SEEK_END)
    whole = b"\xff\xd9" in file.read()
    if not whole:  # something may follow the image; before its pixels a thumbnail may end
        file.seek(0)
        data = file.read()
        whole = data.find(b"\xff\xd9", pixels_of(data)) > 0
    file.seek(here)
    if not whole:
        raise UserError("it is cut off: a JPEG without its end marker")


def pixels_of(data: bytes) -> int:
    """Where the first scan of a JPEG begins: behind all segments that may hold a thumbnail."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


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
