"""The mistakes a trainer is surest of, with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cilmp import metrics
from cilmp.errors import UserError


@dataclass
class Predictions:
    """predictions.npz of one run: probabilities (N, C), labels (N,), paths (N,), classnames (C,)."""

    probabilities: np.ndarray
    labels: np.ndarray
    paths: list[str]
    classnames: list[str]

    @classmethod
    def read(cls, folder: Path) -> Predictions | None:
        path = folder / "predictions.npz"
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                probabilities, labels = metrics.softmax(file["logits"]), file["label"].astype(np.int64)
                return cls(probabilities, labels, file["path"].tolist(), file["classnames"].tolist())
        except Exception as error:  # a damaged archive fails in many ways
            raise UserError(f"{path} is damaged ({error}): delete the run's folder and run it again.") from None

    @classmethod
    def mean(cls, runs: Sequence[Predictions]) -> Predictions:
        """Over seeds, of the images they share."""
        shared = [p for p in runs[0].paths if all(p in set(r.paths) for r in runs[1:])]
        rows = [[{p: i for i, p in enumerate(run.paths)}[path] for path in shared] for run in runs]
        probabilities = np.mean([run.probabilities[row] for run, row in zip(runs, rows, strict=True)], axis=0)
        return cls(probabilities, runs[0].labels[rows[0]], shared, runs[0].classnames)


@dataclass
class Mistake:
    path: str
    truth: str
    prediction: str
    confidence: float  # fraction
    truth_had: float


def worst(predictions: Predictions, count: int) -> list[Mistake]:
    p, names = predictions.probabilities, predictions.classnames
    predicted = p.argmax(1)
    wrong = np.flatnonzero(predicted != predictions.labels)
    order = wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")][:count]
    return [
        Mistake(predictions.paths[i], names[t], names[k], float(p[i, k]), float(p[i, t]))
        for i, k, t in zip(order, predicted[order], predictions.labels[order], strict=True)
    ]


def thumbnail(path: str, root: str = "", side: int = 160) -> str | None:
    """A data: address of a small JPEG; None where the image cannot be read."""
    from PIL import Image

    for place in (Path(path), Path(root, path)):
        try:
            with Image.open(place) as image:
                small = image.convert("RGB")
        except Exception:  # missing, unreadable, damaged: the report says so beside the place
            continue
        if max(small.size) < side:
            small = small.resize([round(s * side / max(small.size)) for s in small.size], Image.Resampling.NEAREST)
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return None
