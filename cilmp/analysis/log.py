"""Learning curves, the one thing only a run's log tells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

LINE = re.compile(r"epoch \[(\d+)/\d+\] batch \[\d+/\d+\].*?\bloss ([-+.\deE]+) \(([-+.\deE]+)\)")


def losses(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """epoch (n,) and the mean loss of each (n,), from all of a run's logs, oldest first: a resumed run has several."""
    last: dict[int, float] = {}
    for path in sorted(folder.glob("log.txt*"), key=lambda p: p.stat().st_mtime):
        for match in LINE.finditer(path.read_text(encoding="utf-8", errors="replace")):
            last[int(match[1])] = float(match[3])  # the running mean of an epoch's last line is that of the epoch
    epochs = sorted(last)
    return (np.array(epochs), np.array([last[e] for e in epochs])) if epochs else None
