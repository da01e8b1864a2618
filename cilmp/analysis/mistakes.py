"""The mistakes a trainer is surest of, with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cilmp.errors import UserError
from cilmp.images import read_image
from cilmp.results.predictions import Predictions, mean


@dataclass
class Mistake:
    path: str
    truth: str
    prediction: str
    confidence: float  # fraction
    truth_had: float


def worst(runs: Sequence[Predictions], count: int) -> list[Mistake]:
    """Of the probabilities averaged over seeds."""
    p, shared = mean(runs)
    predicted, names = p.argmax(1), shared.classnames
    wrong = np.flatnonzero(predicted != shared.labels)
    order = wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")][:count]
    return [
        Mistake(shared.paths[i], names[t], names[k], float(p[i, k]), float(p[i, t]))
        for i, k, t in zip(order, predicted[order], shared.labels[order], strict=True)
    ]


def thumbnail(path: str, root: str = "", side: int = 160) -> str | None:
    """A data: address of a small JPEG; None where the image cannot be read."""
    for place in (Path(path), Path(root, path)):
        try:
            small = read_image(str(place))
        except UserError:  # the report says so beside the place
            continue
        if max(small.size) < side:
            small = small.resize([round(s * side / max(small.size)) for s in small.size], Image.Resampling.NEAREST)
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return None
