"""Synthetic scans: a body part in one of three imaging styles, with one of eight findings drawn into it.

They look as scans do to a small network (anatomy, noise of the modality, a lesion somewhere) and mean nothing
medically.  The same drawing serves the embedded data set and the pre-training of the embedded CLIP; `Acquisition`
says how the two differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from PIL import Image, ImageFilter

SIZE = 64  # pixels, width and height
WHOLE = (0.0, 0.0, 1.0, 1.0)
Y, X = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)  # rows and columns, 0 to 1


@dataclass(frozen=True)
class Acquisition:
    """How a scanner sees: ranges to draw from, uniformly."""

    contrast: tuple[float, float]  # of the finding against the body
    noise: tuple[float, float]  # standard deviation, of a full scale of 1
    blur: tuple[float, float]  # Gaussian radius, pixels
    shading: float  # the strongest brightness gradient across the picture
    gamma: tuple[float, float]  # of the display curve
    field: tuple[float, float, float, float] = WHOLE  # what it shows: left, top, right, bottom; left > right: mirrored


def smooth(rng: Generator, cells: int) -> ndarray:
    """A cloud: noise of `cells` x `cells` values, enlarged smoothly; (SIZE, SIZE) in 0 to 1."""
    small = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(small.resize((SIZE, SIZE), Image.BICUBIC)).clip(0, 1)


def edge(signed: ndarray, width: float) -> ndarray:
    """1 where `signed` > 0, 0 where < 0, blended over `width`."""
    return 1 / (1 + np.exp(-np.clip(signed / width, -30, 30)))


# Styles: (picture, where the body is), both (SIZE, SIZE)


def radiograph(rng: Generator) -> tuple[ndarray, ndarray]:
    """Two dark lungs between bright soft tissue, crossed by ribs."""
    shift, wide = rng.uniform(-0.04, 0.04), rng.uniform(0.15, 0.19)
    lungs = sum(edge(1 - ((X - c - shift) / wide) ** 2 - ((Y - 0.5) / 0.38) ** 2, 0.1) for c in (0.28, 0.72))
    ribs = np.sin(2 * np.pi * (Y * rng.uniform(5, 7) + 1.2 * (X - 0.5 - shift) ** 2 + rng.random())) > 0.6
    return 0.62 - 0.34 * lungs + 0.07 * ribs + 0.06 * smooth(rng, 6), lungs > 0.5


def ultrasound(rng: Generator) -> tuple[ndarray, ndarray]:
    """A fan of speckle that darkens with depth."""
    top = rng.uniform(-0.2, -0.1)
    angle, depth = np.arctan2(X - 0.5, Y - top), np.hypot(X - 0.5, Y - top)
    fan = (np.abs(angle) < rng.uniform(0.45, 0.55)) & (depth < 1.08) & (depth > 0.2)
    layers = 0.09 * np.sin(depth * rng.uniform(18, 30) + rng.uniform(0, 6))
    speckle = rng.rayleigh(0.8, (SIZE, SIZE))
    return fan * (0.42 + layers + 0.1 * smooth(rng, 5)) * speckle * (1.15 - 0.6 * depth), fan


def tomogram(rng: Generator) -> tuple[ndarray, ndarray]:
    """A slice through a head or trunk: a bright shell around grey folds."""
    a, b = rng.uniform(0.36, 0.43, 2)
    radius = np.hypot((X - 0.5) / a, (Y - 0.5) / b)
    folds = 0.05 * np.sin(14 * radius + 6 * smooth(rng, 5))
    inside = edge(1 - radius, 0.03)
    shell = np.exp(-(((radius - 1.0) / 0.06) ** 2))
    return inside * (0.42 + folds) + 0.5 * shell, radius < 0.9


STYLES: dict[str, Callable[[Generator], tuple[ndarray, ndarray]]] = {
    "radiograph": radiograph,
    "ultrasound": ultrasound,
    "tomogram": tomogram,
}


# Findings: what is added to the picture, about -1 to 1, for a centre (y, x) inside the body


def nodule(rng: Generator, y: float, x: float) -> ndarray:
    return edge(rng.uniform(0.06, 0.1) - np.hypot(X - x, Y - y), 0.012)


def cyst(rng: Generator, y: float, x: float) -> ndarray:
    away = np.hypot((X - x) * rng.uniform(0.8, 1.25), Y - y) - rng.uniform(0.09, 0.14)
    return 0.8 * np.exp(-((away / 0.016) ** 2)) - edge(-away, 0.01)


def calcification(rng: Generator, y: float, x: float) -> ndarray:
    dots = np.zeros_like(X)
    for dy, dx in rng.normal(0, 0.08, (rng.integers(7, 13), 2)):
        dots = np.maximum(dots, np.exp(-(np.hypot(X - x - dx, Y - y - dy) ** 2) / 0.014**2))
    return 1.3 * dots


def effusion(rng: Generator, y: float, x: float) -> ndarray:
    level = rng.uniform(0.6, 0.72) + rng.uniform(-0.15, 0.15) * (X - 0.5) - 0.25 * np.abs(X - 0.5) ** 2
    return 0.8 * edge(Y - level, 0.012)


def mass(rng: Generator, y: float, x: float) -> ndarray:
    angle, spikes = np.arctan2(Y - y, X - x), rng.integers(6, 11)
    radius = rng.uniform(0.1, 0.14) * (1 + 0.5 * np.abs(np.sin(spikes / 2 * angle + rng.uniform(0, 6))) ** 3)
    return edge(radius * rng.uniform(0.9, 1.1) - np.hypot(X - x, Y - y), 0.025)


def fracture(rng: Generator, y: float, x: float) -> ndarray:
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * (X - x) + np.sin(turn) * (Y - y), np.cos(turn) * (Y - y) - np.sin(turn) * (X - x)
    zigzag = across + 0.03 * np.sign(np.sin(along * rng.uniform(25, 40)))
    return -1.2 * np.exp(-((zigzag / 0.014) ** 2)) * (np.abs(along) < rng.uniform(0.2, 0.3))


def consolidation(rng: Generator, y: float, x: float) -> ndarray:
    fade = np.exp(-((np.hypot(X - x, Y - y) / rng.uniform(0.18, 0.26)) ** 2))
    return 1.1 * fade * (0.25 + smooth(rng, 9))


def cavity(rng: Generator, y: float, x: float) -> ndarray:
    away = np.hypot(X - x, (Y - y) * rng.uniform(0.85, 1.2)) - rng.uniform(0.09, 0.13)
    return np.exp(-((away / 0.04) ** 2)) - 0.5 * edge(-away - 0.04, 0.01)


FINDINGS: dict[str, Callable[[Generator, float, float], ndarray]] = {
    "nodule": nodule,
    "cyst": cyst,
    "calcification": calcification,
    "effusion": effusion,
    "spiculated mass": mass,
    "fracture": fracture,
    "consolidation": consolidation,
    "cavity": cavity,
}


def seen(
    picture: ndarray, y: float, x: float, left: float, top: float, right: float, bottom: float
) -> tuple[ndarray, float, float]:
    """The picture (SIZE, SIZE) and the place (y, x) through another field of view; black outside of the old one."""
    box = [SIZE * side for side in (left, top, right, bottom)]
    image = Image.fromarray(picture.astype(np.float32)).transform((SIZE, SIZE), Image.EXTENT, box, Image.BILINEAR)
    return np.asarray(image, float), (y - top) / (bottom - top), (x - left) / (right - left)


def scan(finding: str, style: str, acquisition: Acquisition, rng: Generator) -> tuple[Image.Image, tuple[float, float]]:
    """(greyscale picture, the finding's centre (y, x) in 0 to 1)."""
    picture, body = STYLES[style](rng)
    places = np.argwhere(body[8:-8, 8:-8]) + 8  # not at the border
    y, x = places[rng.integers(len(places))] / (SIZE - 1)
    added = FINDINGS[finding](rng, y, x) * rng.uniform(*acquisition.contrast)
    picture = picture + np.where(body, added, 0.3 * added)
    if acquisition.field != WHOLE:
        picture, y, x = seen(picture, y, x, *acquisition.field)
    down, right = rng.uniform(-acquisition.shading, acquisition.shading, 2)
    picture = picture + down * (Y - 0.5) + right * (X - 0.5)
    picture = picture + rng.normal(0, rng.uniform(*acquisition.noise), picture.shape)
    picture = picture.clip(0, 1) ** rng.uniform(*acquisition.gamma)
    image = Image.fromarray((255 * picture).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*acquisition.blur))), (y, x)
