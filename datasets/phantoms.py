"""PHANTOMS, the embedded data set: synthetic scans that prove the pipeline and nothing medical; and PHANTOMS_B, the
same findings as another hospital's scanner shows them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.scans import FINDINGS, STYLES, Acquisition, scan
from cilmp.errors import UserError
from cilmp.files import cache_folder
from dassl.data.datasets import DATASET_REGISTRY

# Out of focus and over-exposed: a fault of the scanner that all classes share.  Chosen by `tiny` alone: zero-shot is
# above chance in both halves of the classes, and a linear probe on 64 images a good deal above zero-shot.
BLURRED = Acquisition(contrast=(0.25, 0.5), noise=(0.01, 0.05), blur=(1.2, 1.8), shading=0.1, gamma=(0.5, 0.7))
# Sharper, noisier and darker, mirrored, and with a wider field: what the first has not seen, and can still be read.
OTHER = Acquisition(
    contrast=(0.4, 0.7),
    noise=(0.04, 0.08),
    blur=(0.7, 1.1),
    shading=0.3,
    gamma=(1.0, 1.4),
    field=(1.08, -0.1, -0.08, 1.1),
)
IMAGES = {"train": 32, "val": 8, "test": 50}  # of each class


def generate(dataset: type[PHANTOMS], folder: Path) -> None:
    """Draw the 720 scans and their split into a folder that appears when it is complete; about a second."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as around:
            draw(dataset, Path(around, folder.name))
            os.rename(Path(around, folder.name), folder)
    except OSError as error:
        if not os.path.isfile(folder / dataset.split):  # else a run beside this one was faster
            why = error.strerror or error
            raise UserError(f"Cannot write {folder} ({why}): name a folder that can be written by --root.") from None


def draw(dataset: type[PHANTOMS], folder: Path) -> None:
    rng, split = np.random.default_rng(dataset.seed), {}
    for part, count in IMAGES.items():
        split[part] = []
        for label, finding in enumerate(FINDINGS):
            place = Path(finding.replace(" ", "_"))
            (folder / place).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                path = place / f"{part}_{i:03d}.png"
                style = list(STYLES)[i % len(STYLES)]
                scan(finding, style, dataset.scanner, rng)[0].save(folder / path)
                split[part].append([path.as_posix(), label, finding])
    (folder / dataset.split).write_text(json.dumps(split))


@DATASET_REGISTRY.register()
class PHANTOMS(SplitDataset):
    dataset_dir, split, classnames = "phantoms", "phantoms.json", tuple(FINDINGS)
    scanner, seed = BLURRED, 2026
    card = Card(
        modality="scan",
        organ="body",
        images=dict.fromkeys(FINDINGS, sum(IMAGES.values())),
        source="drawn by datasets/scans.py with a fixed seed when it is first asked for",
        citation="this repository",
        licence="MIT",
        labels="the finding that was drawn",
        official=(256, 64, 400),
        faults=("synthetic: no medical meaning",),
    )

    def folder(self, root: str) -> Path:
        """Under the root, or in a cache where none is given."""
        folder = (Path(root).expanduser() if root else cache_folder()) / self.dataset_dir
        if not os.path.isfile(folder / self.split):
            generate(type(self), folder)
        return folder


@DATASET_REGISTRY.register()
class PHANTOMS_B(PHANTOMS):
    """Another scanner: a target for what PHANTOMS taught."""

    dataset_dir, split = "phantoms_b", "phantoms_b.json"
    representations = "phantoms"  # the findings are the same, and so is what an LLM knows of them
    scanner, seed = OTHER, 2027
