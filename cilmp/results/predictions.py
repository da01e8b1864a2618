"""What a run said of each test image: predictions.npz beside its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cilmp.errors import UserError
from cilmp.files import replacing
from cilmp.results import metrics

NAME = "predictions.npz"


@dataclass
class Predictions:
    """logits (N, C), labels (N,), paths (N,), classnames (C,), in the order of the test split."""

    logits: np.ndarray
    labels: np.ndarray
    paths: list[str]
    classnames: list[str]

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C)."""
        return metrics.softmax(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the class of the largest logit."""
        return self.logits.argmax(1)

    def write(self, folder: Path) -> None:
        with replacing(folder / NAME, mend="check --output-dir") as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                path=np.array(self.paths),
                label=self.labels,
                logits=self.logits,
                classnames=np.array(self.classnames),
            )

    @classmethod
    def read(cls, folder: Path) -> Predictions | None:
        """None where a run has saved none."""
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                labels = file["label"].astype(np.int64)
                return cls(file["logits"], labels, file["path"].tolist(), file["classnames"].tolist())
        except Exception as error:  # a damaged archive fails in many ways
            raise UserError(f"{path} is damaged ({error}): delete the run's folder and run it again.") from None


def mean(runs: Sequence[Predictions]) -> tuple[np.ndarray, Predictions]:
    """Probabilities (N, C) averaged over seeds, of the images they share; the first run's predictions of those."""
    others = [set(run.paths) for run in runs[1:]]
    shared = [path for path in runs[0].paths if all(path in other for other in others)]
    rows = [[{p: i for i, p in enumerate(run.paths)}[path] for path in shared] for run in runs]
    average = np.mean([run.probabilities[row] for run, row in zip(runs, rows, strict=True)], axis=0)
    first = runs[0]
    return average, Predictions(first.logits[rows[0]], first.labels[rows[0]], shared, first.classnames)


def both_correct(ours: Path, theirs: Path) -> tuple[dict[str, bool], dict[str, bool]] | None:
    """{image: right?} of two runs' folders, over the images both were tested on; None where there are none."""
    runs = [Predictions.read(folder) for folder in (ours, theirs)]
    told = [dict(zip(r.paths, (r.predicted == r.labels).tolist(), strict=True)) for r in runs if r]
    if len(told) < 2:
        return None
    shared = [path for path in told[0] if path in told[1]]
    return ({p: told[0][p] for p in shared}, {p: told[1][p] for p in shared}) if shared else None
