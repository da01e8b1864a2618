"""One training step eager, replayed from a CUDA graph, and with torch.compile: what a host that launches nothing buys.

    python benchmarks/graph.py --classes 8 22 --batch 8 64 --out benchmarks/results

`off`: how far its gradients are from the eager step's at the same seed, relative.  A replay must be right, dropout
included; a compiler draws dropout in its own way.  A way that fails says why, and the rest go on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import torch
from rows import save
from step import TOY_STATES, classnames, replayed, synchronise, timed, toy, training
from torch import Tensor, nn

from cilmp.analysis.flops import STATES, build, vit_b16

Step = Callable[[], None]


def eager(model: nn.Module, image: Tensor, label: Tensor) -> Step:
    return training(model, image, label, nullcontext)


def graph(model: nn.Module, image: Tensor, label: Tensor) -> Step:
    """As trainers do it."""
    if image.device.type != "cuda":
        raise RuntimeError("only a GPU replays a graph")
    return replayed(model, image, label, nullcontext)


def compiled(model: nn.Module, image: Tensor, label: Tensor) -> Step:
    model.losses = torch.compile(model.losses)
    return eager(model, image, label)


WAYS = {"eager": eager, "graph": graph, "compiled": compiled}


def gradients(model: nn.Module, step: Step) -> Tensor:
    torch.manual_seed(1)
    step()
    return torch.cat([p.grad.detach().float().flatten() for p in model.parameters() if p.grad is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[8, 22])
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--trainers", nargs="+", default=["CILMP", "CoOp"])
    parser.add_argument("--ways", nargs="+", default=["eager", "graph"], choices=list(WAYS), help="compiled: minutes")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON")
    args = parser.parse_args()
    device, rows = torch.device(args.device), []
    for way in args.ways:  # the compiler, which takes longest, is the last
        for name, classes, batch in product(args.trainers, args.classes, args.batch):
            row = dict(trainer=name, classes=classes, batch=batch, way=way)
            try:
                row |= measured(name, way, classes, batch, args.precision, args.tiny, device)
            except RuntimeError as error:  # of the capture or the compiler
                row |= dict(ready_seconds=None, seconds=None, off=None, why=str(error).strip().splitlines()[0])
            rows.append(row)
            print(row, flush=True)
            save(args.out, "graph", rows, device, args.precision)


def measured(
    name: str, way: str, classes: int, batch: int, precision: str, tiny: bool, device: torch.device
) -> dict[str, float | str]:
    """Seconds until the first step is done and of a later one; how far its gradients are off the eager ones."""
    torch.manual_seed(0)
    clip = (toy() if tiny else vit_b16()).cast(precision).to(device)
    model = build(name, clip, classnames(classes), TOY_STATES if tiny else STATES).to(device).train()
    image = torch.randn(batch, 3, clip.resolution, clip.resolution, device=device)
    label = torch.randint(classes, (batch,), device=device)
    exact = gradients(model, eager(model, image, label))
    start = time.perf_counter()
    step = WAYS[way](model, image, label)
    found = gradients(model, step)
    synchronise(device)
    ready = time.perf_counter() - start
    seconds = statistics.median(timed({way: step}, 10, device)[way])
    off = float((found - exact).norm() / exact.norm())
    return dict(ready_seconds=ready, seconds=seconds, off=off, why="")


if __name__ == "__main__":
    main()
