"""Image features of finished runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cilmp.errors import UserError
from cilmp.results.predictions import Predictions
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.loading import through


def located(paths: Sequence[str], root: str) -> list[str]:
    """Each path as the run saw it, or below root; a missing image is named."""
    places = [p if Path(p).is_file() else str(Path(root, p)) for p in paths]
    absent = [p for p in places if not Path(p).is_file()]
    if absent:
        raise UserError(f"{len(absent)} of {len(places)} images are not there, the first {absent[0]}: give --root.")
    return places


def tested(folder: Path, root: str) -> tuple[list[str], np.ndarray, list[str]]:
    """(paths, labels (N,), class names) of a run's test split, from its predictions."""
    predictions = Predictions.need(folder)
    return located(predictions.paths, root), predictions.labels, predictions.classnames


def image_features(trainer: CLIPTrainer, paths: Sequence[str], batch_size: int = 64) -> Tensor:
    """(N, E), normalised, of the trainer's image tower with its prompts, on the CPU."""

    def encode(image: Tensor) -> Tensor:
        with trainer.autocast():
            return F.normalize(trainer.model.image(image).float(), dim=-1)

    rows = []
    with contextlib.redirect_stdout(sys.stderr):  # the engine talks
        for _, row, error in through(encode, paths, trainer.cfg, trainer.device, batch_size):
            if row is None:
                raise UserError(str(error))
            rows.append(row)
    return torch.stack(rows)
