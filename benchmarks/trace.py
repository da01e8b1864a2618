"""A profile of CILMP's training step: the share of the time the GPU is busy, its kernels, and a trace to look at.

    python benchmarks/trace.py --precision bf16 --out benchmarks/results

On a GPU the step is replayed from a CUDA graph, as trainers have it.  The trace (trace.json.gz) opens in
chrome://tracing and in Perfetto.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
from rows import save
from step import TOY_STATES, classnames, replayed, synchronise, toy, training

from cilmp.analysis.flops import STATES, build, vit_b16
from cilmp.devices import keep_memory
from cilmp.files import replacing

STEPS = 3


def busy(spans: list[tuple[int, int]]) -> int:
    """Length of the union of (start, end)."""
    total, until = 0, None
    for start, end in sorted(spans):
        if until is None or start > until:
            total, until = total + end - start, end
        elif end > until:
            total, until = total + end - until, end
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="fp16", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--eager", action="store_true", help="launch every kernel of a step, on a GPU too")
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trace and the JSON")
    args = parser.parse_args()
    device = torch.device(args.device)
    keep_memory(device)
    clip = (toy() if args.tiny else vit_b16()).cast(args.precision).to(device)
    states = TOY_STATES if args.tiny else STATES
    model = build("CILMP", clip, classnames(args.classes), states).to(device).train()
    image = torch.randn(args.batch, 3, clip.resolution, clip.resolution, device=device)
    label = torch.randint(args.classes, (args.batch,), device=device)
    way = training if args.eager or device.type != "cuda" else replayed
    step = way(model, image, label, nullcontext)
    for _ in range(3):
        step()
    synchronise(device)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(STEPS):
            step()
        synchronise(device)
    with replacing(args.out / "trace.json.gz", mend="check --out") as partial:
        # the profiler packs what ends in .gz
        packed = partial.with_name(partial.name + ".gz")
        profile.export_chrome_trace(str(packed))
        packed.rename(partial)
    events = [e for e in profile.profiler.kineto_results.events() if "CUDA" in str(e.device_type())]
    row = dict(classes=args.classes, batch=args.batch, way=way.__name__, steps=STEPS)
    if events:
        spans = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in events]
        window = max(end for _, end in spans) - min(start for start, _ in spans)
        row |= dict(kernels_a_step=len(events) / STEPS, ms_a_step=window / STEPS / 1e6, busy=busy(spans) / window)
        longest: dict[str, float] = {}
        for event in events:
            longest[event.name()] = longest.get(event.name(), 0) + event.duration_ns() / STEPS / 1e6
        row["longest_ms"] = dict(sorted(longest.items(), key=lambda item: -item[1])[:20])
    print(row)
    save(args.out, "trace", [row], device, args.precision)


if __name__ == "__main__":
    main()
