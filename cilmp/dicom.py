"""From a DICOM file to the grey or colour values that it stores (extra [dicom]); `cilmp.images` makes them visible.

The steps of the standard's grey pipeline (PS3.3 C.11): modality LUT or rescale, VOI LUT or the first stored window,
MONOCHROME1 inverted.  A tag that is there and blank counts as one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cilmp.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
FRAME_WINDOW = "FrameVOILUTSequence"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom gives all of them as RGB


def is_dicom(file: BinaryIO) -> bool:
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def values(file: BinaryIO) -> np.ndarray:
    """The first frame.  uint8 (H, W) or (H, W, 3) where the file settles what is black and white, else values of any
    range that it leaves to the viewer.  UserError for what is no image, or needs a package to decode it."""
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut
    except ImportError:
        raise UserError("DICOM images need pydicom 3: pip install 'pydicom>=3'") from None
    data = pydicom.dcmread(file)
    fill_blanks(data)
    kind, pixels = data.PhotometricInterpretation, decompressed(data)
    if kind == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)[..., :3]
        return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
    if kind in COLOUR and data.SamplesPerPixel == 3:
        return pixels
    if kind not in GREY or data.SamplesPerPixel != 1:
        raise UserError(f"its photometric interpretation {kind} with {data.SamplesPerPixel} samples is not known")
    if data.BitsAllocated == 1:
        pixels = pixels * np.uint8(255)
    grey = windowed(rescaled(pixels, data), data)
    if kind == "MONOCHROME1":
        eight = np.issubdtype(grey.dtype, np.integer) and grey.min() >= 0 and grey.max() <= 255
        grey = 255 - grey if eight else grey.max() + grey.min() - grey.astype(np.float64)
    return grey


def fill_blanks(data: Dataset) -> None:
    """What the standard requires and files leave blank."""
    samples = data.get("SamplesPerPixel") or 1
    usual = {
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "PixelRepresentation": 0,
        "BitsStored": data.get("BitsAllocated"),
    }
    if samples > 1:
        usual["PlanarConfiguration"] = 0
    for name, value in usual.items():
        if data.get(name) in (None, "") and value is not None:
            setattr(data, name, value)
    if "NumberOfFrames" in data and not data.NumberOfFrames:
        del data.NumberOfFrames


def decompressed(data: Dataset) -> np.ndarray:
    """The first frame as stored, colours as RGB."""
    from pydicom.pixels import pixel_array

    if not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError("it holds no pixels")
    try:
        return pixel_array(data, index=0)
    except (RuntimeError, NotImplementedError) as error:
        if "missing dependencies" not in str(error):
            raise
        syntax = data.file_meta.TransferSyntaxUID.name.split(",")[0]
        raise UserError(
            f"its pixels are compressed as {syntax}, which needs a decoder: pip install pylibjpeg pylibjpeg-libjpeg "
            "pylibjpeg-openjpeg pylibjpeg-rle"
        ) from None


def places(data: Dataset, group: str) -> Iterator[Dataset]:
    """Where a tag of the first frame may stand: the data set itself, or a functional group of an enhanced one."""
    yield data
    for frames in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for frame in (data.get(frames) or ())[:1]:
            yield from (frame.get(group) or ())[:1]


def number(data: Dataset, name: str, group: str) -> float | None:
    """The first of a tag's values; None where it is missing or blank."""
    for place in places(data, group):
        value = place.get(name)
        if isinstance(value, str) or not hasattr(value, "__len__"):
            value = [value]
        if len(value) and value[0] not in (None, ""):
            return float(value[0])
    return None


def rescaled(pixels: np.ndarray, data: Dataset) -> np.ndarray:
    """By the modality LUT, or slope and intercept; as they are where these change nothing."""
    if data.get("ModalityLUTSequence"):
        return looked_up(pixels, data.ModalityLUTSequence[0], data)[0]
    slope, intercept = (number(data, f"Rescale{x}", "PixelValueTransformationSequence") for x in ("Slope", "Intercept"))
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    return pixels if (slope, intercept) == (1, 0) else pixels * np.float64(slope) + intercept


def looked_up(values: np.ndarray, lut: Dataset, data: Dataset) -> tuple[np.ndarray, int]:
    """Each value's entry in a LUT, beyond its ends the first or last one, and the bits of an entry.

    pydicom counts entries in the depth of an entry, so that value 300 of a table of 8 bits becomes value 44.
    """
    entries, first, bits = lut.LUTDescriptor
    table = lut.LUTData
    if isinstance(table, bytes):
        wide = np.dtype(np.uint16).newbyteorder("<" if data.original_encoding[1] is not False else ">")
        table = np.frombuffer(table, np.uint8 if len(table) < 2 * (entries or 2**16) else wide)
    table = np.asarray(table)[: entries or 2**16]
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)], bits


def windowed(grey: np.ndarray, data: Dataset) -> np.ndarray:
    """uint8 by the VOI LUT or the first window (PS3.3 C.11.2.1.2); unchanged where neither is stored."""
    if data.get("VOILUTSequence"):
        found, bits = looked_up(grey, data.VOILUTSequence[0], data)
        return to_8_bits(found / (2.0**bits - 1))
    centre, width = (number(data, name, FRAME_WINDOW) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return grey
    function = next(filter(None, (place.get("VOILUTFunction") for place in places(data, FRAME_WINDOW))), "LINEAR")
    grey = grey.astype(np.float64)
    if function == "SIGMOID":
        return to_8_bits(1 / (1 + np.exp(np.clip(-4 * (grey - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return to_8_bits((grey - centre) / width + 0.5)
    if width <= 1:
        return to_8_bits(grey > centre - 0.5)
    return to_8_bits((grey - (centre - 0.5)) / (width - 1) + 0.5)


def to_8_bits(share: np.ndarray) -> np.ndarray:
    """From 0..1 to 0..255."""
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)
