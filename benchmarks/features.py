"""What the cache of features saves a few-shot sweep of the methods on frozen features.

    python -m cilmp.datasets prepare PNEUMONIA2 --source pneumoniamnist.npz --root data
    python benchmarks/features.py --root data --out benchmarks/results

Every method at 1 to 16 shots and three seeds on the toy backbone, one process, one core: seconds of a run from its
configuration to its test, first with a cache that is empty at the start, then without any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
from importlib import metadata
from pathlib import Path

import torch

import cilmp.datasets
import cilmp.trainers  # noqa: F401  both register
from cilmp.trainers.engine.config import build_cfg
from dassl.engine import build_trainer
from dassl.utils import set_random_seed

METHODS = ["ZeroshotCLIP", "GDA", "TipAdapter", "SSTextPlus", "LinearProbe", "LPPlusPlus", "CLIPAdapter", "TipAdapterF"]
ABSENT = ("resume", "source_domains", "target_domains", "transforms", "backbone", "head")  # flags that are not given


def seconds(name: str, shots: int, seed: int, root: Path, cache: Path, megabytes: int) -> tuple[float, float]:
    """Of one run, and its accuracy."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet[0], quiet[1]:
        opts = ["DATASET.NUM_SHOTS", str(shots), "VERBOSE", "False", "USE_CUDA", "False"]
        opts += ["DATASET.FEATURE_CACHE", str(cache), "DATASET.FEATURE_CACHE_MB", str(megabytes)]
        given = dict(trainer=name, dataset_config_file="pneumonia2", config_file="tiny", root=str(root), seed=seed)
        args = argparse.Namespace(**given, output_dir=folder, opts=opts, **dict.fromkeys(ABSENT, ""))
        start = time.perf_counter()
        set_random_seed(seed)
        trainer = build_trainer(build_cfg(args))
        trainer.train()
        return time.perf_counter() - start, trainer.evaluator.scores["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the prepared data set")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = [(name, shots, seed) for name in METHODS for shots in args.shots for seed in args.seeds]
    taken: dict[str, dict[tuple, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for mode, megabytes in (("cache", 1024), ("none", 0)):
            taken[mode] = {run: seconds(*run, args.root, Path(cache), megabytes) for run in runs}
            print(f"{mode}: {sum(time for time, _ in taken[mode].values()):.1f} s")
        size = sum(path.stat().st_size for path in Path(cache).rglob("*.safetensors"))
    rows = []
    for name in METHODS:
        own = [run for run in runs if run[0] == name]
        row = {mode: round(statistics.median(taken[mode][run][0] for run in own), 3) for mode in taken}
        differ = max(abs(taken["cache"][run][1] - taken["none"][run][1]) for run in own)
        accuracy = {n: round(statistics.mean(taken["cache"][r][1] for r in own if r[1] == n), 2) for n in args.shots}
        rows.append({"method": name, "median_seconds": row, "accuracy": accuracy, "largest_difference": differ})
        print(rows[-1])
    total = {mode: round(sum(time for time, _ in times.values()), 1) for mode, times in taken.items()}
    record = {
        "what": f"PNEUMONIA2, toy backbone, {len(runs)} runs: seconds with the cache of features and without",
        "device": platform.machine(),
        "load_average": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        "total_seconds": total,
        "ratio": round(total["none"] / total["cache"], 2),
        "cache_mib": round(size / 2**20, 2),
        "shots": args.shots,
        "seeds": args.seeds,
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "features_cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
