"""How a CILMP training step grows with classes, images, and the length and width of the LLM's representations.

    python benchmarks/scaling.py --out benchmarks/results

One dimension at a time around C = 22, B = 8, 32 x 4096; each step is timed beside the image tower alone (step.py).
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import nullcontext
from pathlib import Path

import torch
from rows import save
from step import ImageAlone, build, classnames, memory, timed, training, vit_b16

from cilmp.devices import keep_memory
from cilmp.trainers.engine.flops import counted

CENTRE = dict(classes=22, batch=8, length=32, width=4096)
RANGES = dict(classes=[2, 8, 22, 50, 100], batch=[2, 4, 8, 16], length=[16, 24, 32, 40], width=[576, 2048, 4096, 8192])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--over", nargs="+", default=list(RANGES), choices=list(RANGES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()

    device, rows = torch.device(args.device), []
    keep_memory(device)
    clip = vit_b16().to(device)
    for name in args.over:
        for value in RANGES[name]:
            size = CENTRE | {name: value}
            image = torch.randn(size["batch"], 3, 224, 224, device=device)
            label = torch.randint(size["classes"], (size["batch"],), device=device)
            names = classnames(size["classes"])
            models = {
                "alone": ImageAlone(clip).to(device),
                "cilmp": build("CILMP", clip, names, (size["length"], size["width"])).to(device).train(),
            }
            steps = {key: training(model, image, label, nullcontext) for key, model in models.items()}
            seconds = {key: statistics.median(v) for key, v in timed(steps, args.repeats, device).items()}
            row = size | dict(over=name, seconds=seconds["cilmp"], ratio=seconds["cilmp"] / seconds["alone"])
            row["gflops"] = counted(steps["cilmp"], models["cilmp"], True) / 1e9
            row["extra_mb"] = memory(steps["cilmp"], device)
            rows.append(row)
            print(
                f"{name:8s}{value:6d}  {row['seconds']:8.3f} s  x{row['ratio']:5.2f} of image alone  "
                f"{row['gflops']:7.0f} GFLOP {row['extra_mb']:8.0f} MB",
                flush=True,
            )
    if args.out:
        save(args.out, "scaling", rows, device, "fp32")


if __name__ == "__main__":
    main()
