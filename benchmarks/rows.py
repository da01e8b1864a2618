"""The file of what a program measured, named for what the figures depend on."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from cilmp.files import writing


def save(out: Path, what: str, rows: list[dict], device: torch.device, precision: str) -> None:
    """Rows and what they depend on; the file's name says it too."""
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}-{device.type}"
    where = where.replace(" ", "-").replace("/", "-")
    facts = dict(device=where, threads=torch.get_num_threads(), torch=torch.__version__, precision=precision)
    with writing(out / f"{what}-{where}-torch{torch.__version__}-{precision}.json", mend="check --out") as file:
        file.write(json.dumps(facts | dict(rows=rows), indent=1) + "\n")
