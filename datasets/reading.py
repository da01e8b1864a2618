"""From an image file of any kind to 8-bit RGB, and images found unreadable before a run instead of in it.

- palette, CMYK, 1-bit, greyscale: as Pillow converts them to RGB;
- transparency: laid on black, which is the background of a scan;
- more than 8 bits (PNG, TIFF): stretched from the image's own least and greatest value to 0..255, except where all
  values already lie in 0..255;
- DICOM (extra [dicom]): rescale slope and intercept, then the first stored window, else stretched as above;
  MONOCHROME1 inverted; the first frame of several.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch.utils.data import get_worker_info

from cilmp.datasets.splits import brief
from cilmp.errors import UserError
from dassl.data.data_manager import DatasetWrapper

THREADS = 8
EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")


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
        raise UserError("DICOM images need pydicom: pip install 'cilmp[dicom]'.") from None
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


class Images(DatasetWrapper):
    """Dassl's wrapper with the reader above and, for few training images, a memory: DataManager's dataset_wrapper.

    With cfg.DATASET.CACHE_MB > 0 the training images are decoded once, in the main process, into memory that the
    workers share.  An image is kept at no more than twice INPUT.SIZE on its shorter side, so that a random crop still
    finds the detail it will show.  A set that does not fit is read from disk as ever.
    """

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        super().__init__(cfg, data_source, transform=transform, is_train=is_train)
        self.memory: torch.Tensor | None = None  # uint8, all images end to end
        self.shapes: list[tuple[int, int, int]] = []  # offset, height, width
        limit = cfg.DATASET.get("CACHE_MB", 0) * 2**20
        if is_train and limit:
            self.remember(limit)

    def remember(self, limit: int) -> None:
        arrays, total = [], 0
        for item in self.data_source:
            image = self.shrunk(read_image(item.impath))
            arrays.append(np.asarray(image))
            self.shapes.append((total, image.height, image.width))
            total += image.height * image.width * 3
            if total > limit:
                print(f"The training images need more than DATASET.CACHE_MB {limit >> 20}: they are read from disk")
                self.shapes = []
                return
        self.memory = torch.empty(total, dtype=torch.uint8).share_memory_()
        for (offset, *_), array in zip(self.shapes, arrays, strict=True):
            self.memory[offset : offset + array.size] = torch.from_numpy(array.reshape(-1).copy())

    def shrunk(self, image: Image.Image) -> Image.Image:
        factor = 2 * max(self.cfg.INPUT.SIZE) / min(image.size)
        if factor >= 1:
            return image
        return image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def image(self, idx: int) -> Image.Image:
        if self.memory is None:
            return read_image(self.data_source[idx].impath)
        offset, height, width = self.shapes[idx]
        pixels = self.memory[offset : offset + height * width * 3]
        return Image.fromarray(pixels.numpy().reshape(height, width, 3))

    def __getitem__(self, idx: int) -> dict:
        worker = get_worker_info()
        if self.is_train and worker is not None and hasattr(self, "follow_seed"):  # dassl-compat's persistent workers
            self.follow_seed(worker.id)
        item, image = self.data_source[idx], self.image(idx)
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx, "img": image}
        if self.transform is not None:
            several = isinstance(self.transform, list | tuple)
            for i, transform in enumerate(self.transform if several else [self.transform]):
                views = [transform(image) for _ in range(self.k_tfm)]
                output[f"img{i + 1}" if i else "img"] = views if self.k_tfm > 1 else views[0]
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output
