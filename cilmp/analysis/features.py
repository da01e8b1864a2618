"""Image features of finished runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cilmp.analysis.mistakes import Predictions
from cilmp.errors import UserError


def located(paths: Sequence[str], root: str) -> list[str]:
    """Each path as the run saw it, or below root; a missing image is named."""
    places = [p if Path(p).is_file() else str(Path(root, p)) for p in paths]
    absent = [p for p in places if not Path(p).is_file()]
    if absent:
        raise UserError(f"{len(absent)} of {len(places)} images are not there, the first {absent[0]}: give --root.")
    return places


def tested(folder: Path, root: str) -> tuple[list[str], np.ndarray, list[str]]:
    """(paths, labels (N,), class names) of a run's test split, from its predictions."""
    predictions = Predictions.read(folder)
    if predictions is None:
        raise UserError(f"No predictions.npz in {folder}: run with TEST.SAVE_PREDICTIONS True (sweeps do).")
    return located(predictions.paths, root), predictions.labels, predictions.classnames


def image_features(trainer, cfg, paths: Sequence[str], batch_size: int = 64):
    """(N, E), normalised, of the trainer's image tower with its prompts, on the CPU."""
    import torch
    from torch.nn import functional as F
    from tqdm import tqdm

    from cilmp.predict import Images
    from dassl.data.transforms import build_transform

    with contextlib.redirect_stdout(sys.stderr):  # the engine talks
        images = Images(paths, build_transform(cfg, is_train=False))
    features = []
    starts = range(0, len(paths), batch_size)
    with torch.no_grad(), trainer.autocast():
        for start in tqdm(starts, unit=" batches", disable=not sys.stderr.isatty()):
            batch = [images[i] for i in range(start, min(start + batch_size, len(paths)))]
            if errors := [error for _, error in batch if error]:
                raise UserError(errors[0])
            found = trainer.model.image(torch.stack([image for image, _ in batch]).to(trainer.device))
            features.append(F.normalize(found.float(), dim=-1).cpu())
    return torch.cat(features)
