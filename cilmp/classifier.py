"""A finished run as a Python object: cilmp.load(run)(image) -> {class: probability}.

model = cilmp.load("output/busi/CILMP/vit_b16_16shots/seed1")
model("scan.png")["malignant"]
model(["a.png", "b.dcm", PIL.Image.open("c.png")])     a list of three such answers
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from cilmp.errors import UserError
from cilmp.predict import answer, logits_of
from cilmp.restore import restore

Picture = str | os.PathLike[str] | Image.Image
BATCH = 32


class Classifier:
    """Answers as the run's test did: its classes in their order (`classnames`), its precision and preparation."""

    def __init__(self, run: str | Path, device: str = ""):
        with contextlib.redirect_stdout(sys.stderr):  # the engine talks
            self.trainer = restore(run, device)
        self.classnames = list(self.trainer.classnames)

    def __call__(self, images: Picture | Iterable[Picture]) -> dict[str, float] | list[dict[str, float]]:
        """One image or path -> {class: probability}; several -> a list of those.  UserError names an unreadable one."""
        one = isinstance(images, (str, os.PathLike, Image.Image))
        if not one and not isinstance(images, Iterable):
            raise UserError(f"{images!r} is no image: give a path, a PIL image, or several of them.")
        found = []
        with contextlib.redirect_stdout(sys.stderr):
            for source, logits, error in logits_of(self.trainer, [images] if one else list(images), BATCH, workers=0):
                if error:
                    raise UserError(error)
                probabilities = answer(source, logits).probabilities
                found.append(dict(zip(self.classnames, probabilities.tolist(), strict=True)))
        return found[0] if one else found


def load(run: str | Path, device: str = "") -> Classifier:
    """The run in a folder, finished here or fetched by `cilmp hub pull`.

    device: cpu, cuda, cuda:1, mps; '' is a GPU where there is one.  UserError where there is no finished run, or none
    that can answer.
    """
    return Classifier(run, device)
