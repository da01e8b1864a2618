"""What reading images costs a few-shot epoch: from disk, and from the memory that DATASET.CACHE_MB gives.

    python benchmarks/reading.py --out benchmarks/results

128 training images (16 shots of 8 classes) through CLIP's training transforms at 224 px, in the main process, so that
the figures are those of one core; then the look for damage that precedes every run, an image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cilmp.images import require_readable
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.loading import Images
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform

SIDES = (224, 512, 1024, 2048)  # MedMNIST's largest, endoscopy, dermoscopy, fundus photographs
IMAGES, EPOCHS = 128, 3


def draw(folder: Path, side: int) -> list[Datum]:
    items = []
    for i in range(IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (side // 16, side // 16, 3), np.uint8)
        path = folder / f"{side}_{i}.jpg"
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(Datum(str(path), i % 8, classname=str(i % 8)))
    return items


def milliseconds(images: Images) -> float:
    """An image, the quickest of some epochs."""
    times = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for i in range(len(images)):
            images[i]
        times.append((time.perf_counter() - start) / len(images) * 1000)
    return round(min(times), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = default_cfg()
    cfg.set_new_allowed(True)
    cfg.INPUT.SIZE = (224, 224)
    rows = []
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            items = draw(Path(folder), side)
            transform = build_transform(cfg, is_train=True)
            cfg.DATASET.CACHE_MB = 0
            disk = milliseconds(Images(cfg, items, transform, is_train=True))
            cfg.DATASET.CACHE_MB = 2000
            start = time.perf_counter()
            kept = Images(cfg, items, transform, is_train=True)
            fill = time.perf_counter() - start
            memory = milliseconds(kept)
            start = time.perf_counter()
            require_readable([item.impath for item in items])
            look = (time.perf_counter() - start) / IMAGES * 1000
        rows.append(
            {
                "side": side,
                "disk_ms": disk,
                "memory_ms": memory,
                "ratio": round(disk / memory, 2),
                "fill_seconds": round(fill, 2),
                "memory_mib": round(kept.memory.numel() / 2**20, 1),
                "look_for_damage_ms": round(look, 3),
            }
        )
        print(rows[-1])
    record = {
        "what": "milliseconds an image: JPEG quality 90 of a side, CLIP's training transforms to 224 px, one core",
        "device": platform.machine(),
        "load_average": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "reading_cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
