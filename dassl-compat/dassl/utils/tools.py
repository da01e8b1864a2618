import difflib
import json
import os
import os.path as osp
import platform
import sys
import warnings
from collections.abc import Iterable
from importlib import metadata

import torch
from PIL import Image

from dassl.utils.errors import BrokenImage, SettingError
from dassl.utils.seeds import set_random_seed  # noqa: F401  imported from here


def mkdir_if_missing(dirname: str) -> None:
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    found = osp.isfile(fpath)
    if not found:
        warnings.warn(f"No file at '{fpath}'", stacklevel=2)
    return found


def read_json(fpath: str):
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj, fpath: str) -> None:
    if osp.dirname(fpath):
        mkdir_if_missing(osp.dirname(fpath))
    with open(fpath, "w", encoding="utf-8") as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    items = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(items) if sort else items


def get_most_similar_str_to_a_from_b(a: str, b) -> str | None:
    return max(b, key=lambda name: difflib.SequenceMatcher(None, a, name).ratio(), default=None)


def check_availability(requested: str, available: Iterable[str], option: str = "") -> None:
    """Raise SettingError, with the choices and the likeliest one meant, unless `requested` is among them.

    option: the key of the configuration that asked.
    """
    available = list(available)
    if requested in available:
        return
    where = f"{option}: " if option else ""
    if not available:
        raise SettingError(f"{where}'{requested}' is unknown: nothing is registered there")
    nearest = get_most_similar_str_to_a_from_b(requested, available)
    raise SettingError(f"{where}'{requested}' is not among {available}. Did you mean '{nearest}'?")


def tolist_if_not(x) -> list:
    return x if isinstance(x, list) else [x]


def read_image(path: str) -> Image.Image:
    """An image as RGB; BrokenImage where it is missing or damaged."""
    if not osp.exists(path):
        raise BrokenImage(f"No image at {path}")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # decoders fail in many ways
        raise BrokenImage(f"Cannot read the image {path} ({type(error).__name__}: {error})") from None


def download_url(url: str, dst: str, from_gdrive: bool = False) -> None:
    """Fetch a file; Google Drive asks for a browser's session, so a file there is fetched by hand."""
    if from_gdrive:
        raise OSError(f"Files on Google Drive are not fetched here: put {url} at {dst} by hand")
    torch.hub.download_url_to_file(url, dst)


def collect_env_info() -> str:
    """Versions and devices, a line each."""
    lines = [f"Python: {sys.version.split()[0]}", f"Platform: {platform.platform()}"]
    for package in ("dassl", "torch", "torchvision", "numpy", "pillow"):
        try:
            lines.append(f"{package}: {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{package}: not installed")
    count = torch.cuda.device_count()
    lines += [f"GPU {i}: {torch.cuda.get_device_name(i)}" for i in range(count)] or ["GPU: none"]
    return "\n".join(lines)
