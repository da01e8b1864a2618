"""PHANTOMS, the embedded data set: synthetic scans that prove the pipeline and nothing medical."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from cilmp.datasets.scans import FINDINGS, STYLES, Acquisition, scan

POOR = Acquisition(contrast=(0.18, 0.35), noise=(0.06, 0.1), blur=(0.6, 1.0), shading=0.35, gamma=(0.5, 0.7))
IMAGES = {"train": 32, "val": 8, "test": 50}  # of each class
CACHE = Path("~/.cache/cilmp")


def generate(folder: Path) -> None:
    """Draw the 720 scans and their split into a folder that appears when it is complete; about a second."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    rng, split = np.random.default_rng(2026), {}
    for part, count in IMAGES.items():
        split[part] = []
        for label, finding in enumerate(FINDINGS):
            place = Path(finding.replace(" ", "_"))
            (partial / place).mkdir(exist_ok=True)
            for i in range(count):
                path = place / f"{part}_{i:03d}.png"
                style = list(STYLES)[i % len(STYLES)]
                scan(finding, style, POOR, rng)[0].save(partial / path)
                split[part].append([str(path), label, finding])
    (partial / PHANTOMS.split).write_text(json.dumps(split))
    partial.chmod(0o755)
    try:
        os.rename(partial, folder)
    except OSError:  # a run beside this one was faster
        shutil.rmtree(partial)
