"""What a run said of each test image: predictions.npz beside its record; and of its validation images, likewise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cilmp.errors import UserError
from cilmp.files import replacing
from cilmp.results import metrics

NAME, VALIDATION = "predictions.npz", "validation.npz"


@dataclass
class Predictions:
    """logits (N, C), labels (N,), paths (N,), classnames (C,), in the order of the split."""

    logits: np.ndarray
    labels: np.ndarray
    paths: list[str]
    classnames: list[str]
    root: str = ""  # the data folder that the run was given
    made_by: str = ""  # a fingerprint of the model, where it was asked for

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C)."""
        return metrics.softmax(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the class of the largest logit."""
        return self.logits.argmax(1)

    @property
    def places(self) -> list[str]:
        """(N,) what names an image wherever the data lie: its path below the data folder, where it is below it.

        The second time that an image is listed its name gets a number.
        """
        root = str(Path(self.root).expanduser()).replace("\\", "/").rstrip("/") if self.root else ""
        below = [path.replace("\\", "/").removeprefix(f"{root}/" if root else "") for path in self.paths]
        if len(set(below)) == len(below):
            return below
        seen: Counter[str] = Counter()
        for i, path in enumerate(below):
            seen[path] += 1
            below[i] = path if seen[path] == 1 else f"{path} ({seen[path]})"
        return below

    @property
    def truths(self) -> list[str]:
        """(N,) the name of each image's class."""
        return [self.classnames[label] for label in self.labels]

    def write(self, folder: Path, name: str = NAME) -> None:
        with replacing(folder / name, mend="check --output-dir") as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                path=np.array(self.paths),
                label=self.labels,
                logits=self.logits,
                classnames=np.array(self.classnames),
                made_by=np.array(self.made_by),
            )

    @classmethod
    def read(cls, folder: Path, root: str = "", name: str = NAME) -> Predictions | None:
        """None where a run has saved none; UserError where they are damaged or do not fit one another."""
        path = folder / name
        if not path.exists():
            return None
        try:
            if not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no file")
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in ("logits", "label", "path", "classnames")}
                made_by = str(file["made_by"]) if "made_by" in file else ""
            check(**found)
        except Exception as error:  # a damaged archive fails in many ways
            why = f"it has no array {error.args[0]}" if isinstance(error, KeyError) else str(error)
            if "pickle" in why:  # NumPy tells how to run it
                why = "it holds other things than arrays of numbers and text"
            mend = (
                "delete the run's folder and run it again" if name == NAME else "delete it and calibrate the run again"
            )
            raise UserError(f"{path} is damaged ({why}): {mend}.") from None
        labels = found["label"].astype(np.int64)
        return cls(found["logits"], labels, found["path"].tolist(), found["classnames"].tolist(), root, made_by)

    @classmethod
    def need(cls, folder: Path) -> Predictions:
        """`read`, and UserError where there are none."""
        found = cls.read(folder)
        if found is None:
            raise UserError(f"No {NAME} in {folder} (sweeps save them): {tested(folder)}, and go on with NEW.")
        return found

    def like(self, other: Predictions) -> Predictions | None:
        """The same with the classes in the order of another run's; None where they are other classes."""
        if sorted(self.classnames) != sorted(other.classnames):
            return None
        column = {name: i for i, name in enumerate(self.classnames)}
        order = np.array([column[name] for name in other.classnames])
        labels = np.argsort(order)[self.labels]
        return Predictions(self.logits[:, order], labels, self.paths, other.classnames, self.root)


def tested(folder: Path) -> str:
    """How a run gets predictions after training, a shared one too."""
    return (
        f"test it where its data are, `cilmp train --eval-only --model-dir {folder} --output-dir NEW ... "
        "TEST.SAVE_PREDICTIONS True`"
    )


def check(logits: np.ndarray, label: np.ndarray, path: np.ndarray, classnames: np.ndarray) -> None:
    """ValueError where a file holds other arrays than `write` writes."""
    for name, array, kinds, axes in (
        ("logits", logits, "f", 2),
        ("label", label, "iu", 1),
        ("path", path, "U", 1),
        ("classnames", classnames, "U", 1),
    ):
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    images, classes = logits.shape
    if not images or not classes:
        raise ValueError(f"{images} images of {classes} classes")
    if not len(label) == len(path) == images:
        raise ValueError(f"{images} rows of logits, {len(label)} labels, {len(path)} paths")
    if len(classnames) != classes:
        raise ValueError(f"{classes} columns of logits, {len(classnames)} class names")
    if len(set(classnames.tolist())) < classes:
        raise ValueError("two classes have one name")
    if label.min() < 0 or label.max() >= classes:
        raise ValueError(f"labels from {label.min()} to {label.max()} of {classes} classes")
    if not np.isfinite(logits).all():
        raise ValueError("logits that are no finite numbers")


def mean(runs: Sequence[Predictions]) -> tuple[np.ndarray, Predictions]:
    """Probabilities (N, C) averaged over seeds, of the images that all were tested on and call by one class; the first
    run's predictions of those.  The runs are `like` one another."""
    rows = [{key: i for i, key in enumerate(zip(run.places, run.labels.tolist(), strict=True))} for run in runs]
    shared = [key for key in rows[0] if all(key in other for other in rows[1:])]
    picked = [np.array([row[key] for key in shared], np.int64) for row in rows]
    average = np.mean([run.probabilities[row] for run, row in zip(runs, picked, strict=True)], axis=0)
    first, row = runs[0], picked[0]
    paths = [first.paths[i] for i in row]
    return average, Predictions(first.logits[row], first.labels[row], paths, first.classnames, first.root)
