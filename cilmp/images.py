"""From an image file of any kind to 8-bit RGB, and images found unreadable before a run instead of in it.

- palette, CMYK, 1-bit, greyscale: as Pillow converts them to RGB;
- transparency: laid on black, which is the background of a scan;
- more than 8 bits (PNG, TIFF): stretched from the image's own least and greatest value to 0..255, except where all
  values already lie in 0..255;
- DICOM (needs pydicom): rescale slope and intercept, then the first stored window, else stretched as above;
  MONOCHROME1 inverted; the first frame of several.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image

from cilmp.errors import UserError, brief

THREADS = 8
EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom")


class Unreadable(UserError):
    """An image that cannot be read, in one line that names it.

    A DataLoader raises a worker's error again with the worker's traceback as the message: its last line is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.strip().splitlines()[-1].split("Unreadable: ")[-1])


def read_image(path: str) -> Image.Image:
    """The image as 8-bit RGB; Unreadable, a UserError, names a file which cannot be read."""
    try:
        with open(path, "rb") as file:
            return decode(file)
    except Exception as error:  # decoders fail in many ways
        raise Unreadable(f"Cannot read the image {path} ({explain(error)}).") from None


def explain(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def decode(file: BinaryIO) -> Image.Image:
    if is_dicom(file):
        return decode_dicom(file)
    with Image.open(file) as image:
        if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
            return stretch(np.asarray(image))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
        return image.convert("RGB")


def stretch(values: np.ndarray) -> Image.Image:
    """(H, W) of any range -> RGB."""
    values = np.nan_to_num(values.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        values = (values - low) * (255 / (high - low))
    return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")


def is_dicom(file: BinaryIO) -> bool:
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def decode_dicom(file: BinaryIO) -> Image.Image:
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        raise UserError("DICOM images need pydicom: pip install pydicom.") from None
    data = pydicom.dcmread(file)
    pixels = data.pixel_array
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[0]
    if data.SamplesPerPixel == 3:
        if "YBR" in data.PhotometricInterpretation:
            pixels = pydicom.pixels.convert_color_space(pixels, data.PhotometricInterpretation, "RGB")
        return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    values = apply_modality_lut(pixels, data).astype(np.float32)
    if data.get("WindowWidth") is not None or data.get("VOILUTSequence"):
        values = apply_voi_lut(values if data.get("WindowWidth") is not None else pixels, data).astype(np.float32)
    if data.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() + values.min() - values
    low, high = float(values.min()), float(values.max())
    return stretch((values - low) * (255 / (high - low)) if high > low else values * 0)


def problem(path: str) -> str:
    """Why an image cannot be read, or ''.  Looks at its header and end; decodes only what looks cut off.

    A quarter to half a millisecond an image where a decode takes 1 to 40 (benchmarks/reading.py).  A PNG's checksums
    cover all of it; damage in the middle of a JPEG shows as a grey patch at worst, in every decoder.
    """
    try:
        with open(path, "rb") as file:
            if is_dicom(file):
                decode(file)
                return ""
            with Image.open(file) as image:
                if image.format == "PNG":
                    image.verify()
                    return ""
                if image.format != "JPEG" or not ends_whole(path):
                    image.load()
    except Exception as error:  # decoders fail in many ways
        return explain(error)
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
