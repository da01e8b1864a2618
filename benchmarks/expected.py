"""What a GPU should need for a training step, reckoned without one: FLOPs, bytes, launches, and rates as assumed.

    python benchmarks/expected.py

Counted on `meta`, where tensors have shapes and no numbers, through a fused attention as a GPU has.  A replayed step
takes the GPU's time, an eager one the longer of the two, for the host launches while the GPU works:
    GPU    FLOPs / rate of products + bytes moved outside of products / bandwidth + launches x time of a small kernel
    host   launches x time of a launch
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from unittest import mock

import torch
from step import EVERY, ImageAlone, classnames, training
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cilmp.analysis.flops import build, vit_b16
from cilmp.trainers.engine.flops import plain_attention
from cilmp.trainers.engine.launches import Launches

PRODUCTS = {"fp32": 40e12, "fp16": 450e12, "bf16": 450e12}  # FLOP/s in reach, of 67e12 and 989e12 at the peak (SXM)
BANDWIDTH = {"H100": 0.8 * 3.35e12, "H200": 0.8 * 4.8e12}  # bytes/s in reach, of the peak
KERNEL = 3.2e-6  # seconds of the GPU a launch, however small: CILMP's step with 8 images on an H200
LAUNCH = 40e-6  # seconds of that machine's host an operator, PyTorch's eager mode with autograd
SETTINGS = [  # trainer, classes, images, precision
    ("CILMP", 8, 64, "fp16"),
    ("CILMP", 22, 64, "fp16"),
    ("CILMP", 100, 64, "fp16"),
    ("CILMP", 8, 8, "fp16"),
    ("CILMP", 8, 64, "fp32"),
    ("CILMP", 22, 64, "fp32"),
    ("CoOp", 8, 64, "fp16"),
    ("CoCoOp", 8, 64, "fp16"),
    ("MaPLe", 8, 64, "fp16"),
]


class Fused(torch.autograd.Function):
    """An attention of which only shapes matter: what goes in and comes out is in the memory, the scores never are."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return q.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return *(x.clone() for x in ctx.saved_tensors), None, None


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    return Fused.apply(q, k, v, mask, is_causal)


def counted(step: Callable[[], None]) -> tuple[int, int, int]:
    """FLOPs, bytes outside of products, launches."""
    with FlopCounterMode(display=False) as flops, plain_attention():
        step()
    with mock.patch.object(F, "scaled_dot_product_attention", fused), Launches() as asked:
        step()
    return flops.get_total_flops(), asked.moved, asked.count


def seconds(flops: int, moved: int, launches: int, card: str, precision: str) -> tuple[float, float]:
    """Of the GPU and of the host."""
    return flops / PRODUCTS[precision] + moved / BANDWIDTH[card] + launches * KERNEL, launches * LAUNCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", default=EVERY, choices=EVERY, help="leave out the others' settings")
    args = parser.parse_args()
    print("| | C | B | | TFLOP | GB moved | launches | H100: GPU ms | H200: GPU ms | host ms | ratio, GPU alone |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, classes, batch, precision in SETTINGS:
        if name not in args.trainers:
            continue
        clip = vit_b16().cast(precision)
        model, alone = build(name, clip, classnames(classes)), ImageAlone(clip)
        image = torch.empty(batch, 3, 224, 224, device="meta")
        label = torch.zeros(batch, dtype=torch.long, device="meta")
        work = [counted(training(m.to("meta").train(), image, label, nullcontext)) for m in (model, alone)]
        (h100, host), (h200, _) = (seconds(*work[0], card, precision) for card in BANDWIDTH)
        ratio = h100 / seconds(*work[1], "H100", precision)[0]
        flops, moved, launches = work[0]
        print(
            f"| {name} | {classes} | {batch} | {precision} | {flops / 1e12:.2f} | {moved / 1e9:.1f} | {launches} | "
            f"{h100 * 1e3:.1f} | {h200 * 1e3:.1f} | {host * 1e3:.1f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
