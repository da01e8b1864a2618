"""CLIP's RN50 on a batch of images, its weights laid out channels-last (what load_clip does) or as OpenAI's files are.

python benchmarks/resnet.py --out benchmarks/results
"""

from __future__ import annotations

import argparse
import copy
import statistics
from functools import partial
from pathlib import Path

import torch
from clip.model import ModifiedResNet
from rows import save
from step import timed

from cilmp.devices import keep_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()

    device, rows = torch.device(args.device), []
    keep_memory(device)
    torch.manual_seed(0)
    plain = ModifiedResNet((3, 4, 6, 3), 1024, 32, 224, 64).eval().requires_grad_(False).to(device)
    models = dict(plain=plain, channels_last=copy.deepcopy(plain).to(memory_format=torch.channels_last))
    for batch in args.batch:
        image = torch.randn(batch, 3, 224, 224, device=device)
        seconds = timed({name: partial(model, image) for name, model in models.items()}, args.repeats, device)
        row = dict(batch=batch) | {name: statistics.median(values) for name, values in seconds.items()}
        row["ratio"] = row["plain"] / row["channels_last"]
        rows.append(row)
        print("B={batch:<3d} plain {plain:.3f} s  channels-last {channels_last:.3f} s  x{ratio:.2f}".format(**row))
    if args.out:
        save(args.out, "resnet", rows, device, "fp32")


if __name__ == "__main__":
    main()
