"""An epoch of CILMP as its authors train it, and how much of it the input side costs.

    python benchmarks/epoch.py --workers 4 16 --out benchmarks/results

ViT-B/16 and states 32 x 4096 at random, C = 8 and 22, B = 64, fp16 on a GPU; 1,000 JPEG files of 640 x 480 through the
training's own loader: read from disk, kept decoded (DATASET.CACHE_MB), or on the device (DATALOADER.AUGMENT), where
no worker is needed.  Of each setting the second epoch counts: the batches alone, until their numbers are on the device;
the steps alone on one that is there; and both together, as a run has them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rows import save
from step import TOY_STATES, classnames, synchronise, toy
from torch import Tensor

from cilmp.analysis.flops import STATES, build, vit_b16
from cilmp.devices import keep_memory
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.crops import on_device
from cilmp.trainers.engine.graph import Replayed
from cilmp.trainers.engine.loading import Images
from cilmp.trainers.engine.workers import Spread, as_bytes
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.optim import build_optimizer


def draw(folder: Path, count: int, classes: int) -> list[Datum]:
    """Few pixels made large: a JPEG of the size of an endoscopic image."""
    items = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8)
        path = folder / f"{i}.jpg"
        Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(Datum(str(path), i % classes, classname=str(i % classes)))
    return items


def loader(items: list[Datum], batch: int, workers: int, source: str, side: int, device: torch.device):
    """As a trainer has it, and what makes numbers on the device of its images."""
    cfg = default_cfg()
    cfg.set_new_allowed(True)
    cfg.INPUT.SIZE, cfg.SEED = (side, side), 1
    cfg.DATALOADER.NUM_WORKERS, cfg.DATASET.CACHE_MB = workers, 0 if source == "files" else 4000
    transform = build_transform(cfg, is_train=True)
    options = dict(data_source=items, batch_size=batch, tfm=transform, is_train=True, dataset_wrapper=Images)
    batches, numbers = build_data_loader(cfg, "RandomSampler", **options), lambda image: image
    if source == "device":
        return on_device(batches, device)
    if workers > 1:
        dataset, numbers = as_bytes(batches.dataset)
        batches = Spread(batches, workers, dataset)
    return batches, lambda image: numbers(image.to(device, non_blocking=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[8, 22])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--precision", default="fp16", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()
    device, rows = torch.device(args.device), []
    keep_memory(device)
    clip = (toy() if args.tiny else vit_b16()).cast(args.precision).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for classes in args.classes:
            items = draw(Path(folder), args.images, classes)
            model = build("CILMP", clip, classnames(classes), TOY_STATES if args.tiny else STATES).to(device).train()
            optim = build_optimizer([p for p in model.parameters() if p.requires_grad], default_cfg().OPTIM)

            def gradients(image: Tensor, label: Tensor, model=model, optim=optim):
                optim.zero_grad()
                sum(model.losses(image, label)[0].values()).backward()
                return {}, label

            if device.type == "cuda":  # as trainers do
                gradients = Replayed(gradients, model)

            def step(image: Tensor, label: Tensor, gradients=gradients, optim=optim) -> None:
                gradients(image, label.to(device, non_blocking=True))
                optim.step()

            settings = [(workers, source) for workers in args.workers for source in ("files", "memory")]
            for workers, source in [(0, "device"), *settings]:
                batches, numbers = loader(items, args.batch, workers, source, clip.resolution, device)
                first = next(iter(batches))
                here = numbers(first["img"]), first["label"].to(device)
                step(*here)
                seconds = {}
                for what, feed, run in (
                    ("loader", batches, lambda batch, numbers: numbers(batch["img"])),
                    ("steps", [here] * len(batches), lambda batch, numbers, step=step: step(*batch)),
                    ("both", batches, lambda batch, numbers, step=step: step(numbers(batch["img"]), batch["label"])),
                ):
                    synchronise(device)
                    start = time.perf_counter()
                    for batch in feed:
                        run(batch, numbers)
                    synchronise(device)
                    seconds[f"{what}_seconds"] = time.perf_counter() - start
                row = dict(classes=classes, batch=args.batch, images=args.images, workers=workers, source=source)
                rows.append(row | seconds)
                print(rows[-1], flush=True)
                if args.out:
                    save(args.out, "epoch", rows, device, args.precision)


if __name__ == "__main__":
    main()
