"""One training step and one test batch of each trainer, against the image tower alone: time, memory, FLOPs, bytes and
launches.

    python benchmarks/step.py --classes 5 22 100 --batch 8 --out benchmarks/results

The yardstick is what no prompt learner can avoid: the same image tower with the same prompts, forward and backward.
On a GPU a training step is timed as trainers run it, replayed from a CUDA graph, and eager.
Weights are random (speed does not depend on them), ViT-B/16 with OpenAI's text tower or (--backbone biomedclip) BERT
base, representations 32 x 4096 as LLaMA3-8B's; --tiny is a toy that tests only that the program runs.
"""

from __future__ import annotations

import argparse
import copy
import gc
import resource
import statistics
import time
from pathlib import Path

import torch
from rows import save

import cilmp.trainers  # noqa: F401  registers the trainers
from cilmp.analysis.flops import STATES, biomedclip, build, vit_b16
from cilmp.clip import CLIP
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.devices import keep_memory
from cilmp.trainers.engine.config import trainers
from cilmp.trainers.engine.flops import counted
from cilmp.trainers.engine.graph import Replayed
from cilmp.trainers.engine.launches import Launches
from dassl.engine import TRAINER_REGISTRY

FINDINGS = "nodule effusion carcinoma pneumonia fibrosis edema cyst polyp ulcer hemorrhage".split()
KINDS = ["", "viral", "benign", "malignant", "acute bacterial", "chronic", "diffuse interstitial", "calcified"]
KINDS += ["mild", "severe", "recurrent"]
TRAINERS = ("CoOp", "CoCoOp", "MaPLe", "CILMP")
EVERY = [name for name in trainers() if TRAINER_REGISTRY.get(name).steps == "images"]  # whose steps go through towers
TOY_STATES = 12, 20


def toy() -> CLIP:
    """As deep as ViT-B/16 and of hardly any width."""
    torch.manual_seed(0)
    clip = CLIP(ImageTower(32, 16, 24, 12, 1, 12), TextTower(16, 12, 2, 77, 12), 49408)
    return clip.eval().requires_grad_(False)


def classnames(n: int) -> list[str]:
    """Names of one to several tokens."""
    names = [f"{kind} {finding}".strip() for kind in KINDS for finding in FINDINGS]
    return [names[i % len(names)] + (f" grade {i // len(names) + 1}" if i >= len(names) else "") for i in range(n)]


class ImageAlone(torch.nn.Module):
    """The yardstick: a CILMP's image tower with its prompts and nothing else."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip
        size = 4, clip.visual.width
        self.vision = torch.nn.ParameterList(torch.randn(size) * 0.02 for _ in range(clip.visual.depth))

    def losses(self, image, label):
        return {"mean": self.clip.encode_image(image, list(self.vision)).float().square().mean()}, None

    def forward(self, image):
        return self.clip.encode_image(image, list(self.vision))


def peak(device) -> float:
    """MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def synchronise(device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def training(model, image, label, autocast):
    def step():
        for p in model.parameters():
            p.grad = None
        with autocast():
            losses, _ = model.losses(image, label)
            loss = sum(losses.values())
        loss.backward()

    return step


def replayed(model, image, label, autocast):
    """The step as trainers have it on a GPU."""
    own = training(model, image, label, autocast)

    def step(image, label):
        own()
        return {}, label

    whole = Replayed(step, model)
    return lambda: whole(image, label)


def testing(model, image, label, autocast):
    @torch.no_grad()
    def step():
        with autocast():
            model(image) if isinstance(model, ImageAlone) else model.infer(image)

    return step


def timed(steps: dict, repeats: int, device) -> dict[str, list[float]]:
    """Seconds of each step, interleaved so that a slow minute of the machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            synchronise(device)
            start = time.perf_counter()
            step()
            synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def launches(step) -> Launches:
    with Launches() as counter:
        step()
    return counter


def memory(step, device) -> float:
    """Extra MiB of one step: on a GPU exact; on a CPU from the allocator's profile."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 8, 22, 100])
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS), choices=EVERY)
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--backbone", default="vit_b16", choices=["vit_b16", "biomedclip"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16", "amp"])
    parser.add_argument("--literal", action="store_true", help="time the literal path as well (slow)")
    parser.add_argument("--no-memory", action="store_true", help="skip the profile of memory")
    parser.add_argument("--no-counts", action="store_true", help="skip FLOPs and launches, which take most of the time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--name", default="", help="goes into the JSON's name, before the device")
    args = parser.parse_args()

    device = torch.device(args.device)
    keep_memory(device)  # as a trainer does
    words = " ".join(["a photo of", *classnames(max(args.classes))]).split()
    clip = toy() if args.tiny else vit_b16() if args.backbone == "vit_b16" else biomedclip(words)
    states = TOY_STATES if args.tiny else STATES
    clip = clip.cast(args.precision).to(device)

    def autocast():
        half = torch.float16 if device.type == "cuda" else torch.bfloat16
        return torch.autocast(device.type, dtype=half, enabled=args.precision == "amp")

    def held(step) -> float | None:
        return None if args.no_memory else memory(step, device)

    rows = []
    for batch in args.batch:
        image = torch.randn(batch, 3, clip.resolution, clip.resolution, device=device)
        for classes in args.classes:
            models = {("image alone", "fast"): ImageAlone(clip).to(device)}
            lengths = [len(clip.tokenizer.encode(f"{name}.")) - 1 for name in classnames(classes)]
            tokens = sum(lengths) / classes  # of a name, its full stop and EOS: what every (image, class) pays for
            print(f"C={classes}: {tokens:.1f} tokens of name a class")
            label = torch.randint(classes, (batch,), device=device)
            for name in args.trainers:
                prompts = TRAINER_REGISTRY.get(name).method.kind == "prompt"
                own = clip if prompts else copy.deepcopy(clip)  # others change the towers themselves
                models[name, "fast"] = build(name, own, classnames(classes), states).to(device)
                if args.literal:
                    models[name, "literal"] = copy.deepcopy(models[name, "fast"])
                    models[name, "literal"].literal = True
            asked: dict[tuple, dict] = {}
            ways = [("train", "eager", training), ("test", "eager", testing)]
            ways += [("train", "replayed", replayed)] if device.type == "cuda" else []
            for kind, way, make in ways:
                for model in models.values():
                    model.train(kind == "train")
                steps = {key: make(model, image, label, autocast) for key, model in models.items()}
                seconds = timed(steps, args.repeats, device)
                alone = statistics.median(seconds["image alone", "fast"])
                for (name, path), values in seconds.items():
                    median = statistics.median(values)
                    if way == "eager":  # what is counted of the one holds for the other
                        step = steps[name, path]
                        found = dict(extra_mb=held(step))
                        if not args.no_counts:
                            seen = launches(step)
                            found |= dict(gflops=counted(step, models[name, path], kind == "train") / 1e9)
                            found |= dict(launches=seen.count, gb_moved=seen.moved / 1e9)
                        asked[kind, name, path] = found
                    row = dict(trainer=name, path=path, step=kind, way=way, classes=classes, batch=batch)
                    row |= dict(seconds=median, tokens=tokens, ratio=median / alone) | asked[kind, name, path]
                    extra = "" if args.no_memory else f" {row['extra_mb']:7.0f} MB held"
                    if not args.no_counts:
                        row["gflops_per_second"] = row["gflops"] / median
                        extra += f" {row['gflops']:9.0f} GFLOP {row['launches']:5d} launches"
                        extra += f" {row['gb_moved']:6.1f} GB moved"
                    rows.append(row)
                    print(
                        f"{kind:5s} {way:8s} B={batch:<3d} C={classes:<4d} {name:12s}{path:8s} {median:8.4f} s  "
                        f"x{row['ratio']:5.2f} of image alone {extra}",
                        flush=True,
                    )
            if args.out:  # after each setting: a run that is cut leaves what it has
                save(args.out, f"step-{args.name}".rstrip("-"), rows, device, args.precision)


if __name__ == "__main__":
    main()
