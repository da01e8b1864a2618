"""The embedded demo with one seed, on a device and on the CPU: does each run end with the same accuracy?

    python benchmarks/demo.py --device cuda --out benchmarks/results

Both in fp32 and without CILMP's dropout, whose masks a GPU draws in another way: other masks alone move a run of the
demo by 10 points.  Equal to a few images, not exactly: sums run in another order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rows import save

import cilmp.trainers  # noqa: F401  registers the trainers
from cilmp.results import records
from cilmp.system import cores
from cilmp.trainers.engine.config import facts, trainers
from dassl.engine import TRAINER_REGISTRY


def sweep(folder: Path, trainer: str, device: str, tiny: bool) -> subprocess.Popen:
    """Of one trainer, for each knows its own options alone."""
    defaults, block = TRAINER_REGISTRY.get(trainer).defaults, f"TRAINER.{trainer.upper()}"
    data = folder / "data" / trainer  # drawn there; two that draw at once would be in each other's way
    data.mkdir(parents=True)
    command = [sys.executable, "-m", "cilmp.sweep", "base2new", "--trainers", trainer, "--seeds", "1", "--jobs", "1"]
    command += ["--output", str(folder / trainer), "--data", str(data)]
    command += ["--gpus", ""] if device == "cpu" else []
    command += ["--shots", "1"] if tiny else []
    command += ["--", "USE_CUDA", str(device != "cpu"), *(["OPTIM.MAX_EPOCH", "1"] if tiny else [])]
    exact = {"PREC": "fp32", "DROPOUT": "0.0"}
    command += [word for key, value in exact.items() if key in defaults for word in (f"{block}.{key}", value)]
    return subprocess.Popen(
        command, env=os.environ | dict(OMP_NUM_THREADS=str(max(1, cores() // 4)))
    )  # they run at once


def accuracies(folder: Path) -> dict[tuple[str, str], float]:
    """(trainer, base or new) -> accuracy in %."""
    found = [records.read(path.parent) for path in sorted(folder.rglob("result.json"))]
    return {(record["trainer"], record["classes"]): record["metrics"]["accuracy"] for record in found}


def shown(fact: dict) -> bool:
    """In the demo's table, where no trainers are named?"""
    return fact["compared"] and "base2new" in fact["protocols"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", help="default: those that the demo compares")
    parser.add_argument("--tiny", action="store_true", help="one epoch of one shot, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()
    names = args.trainers or [name for name in trainers() if shown(facts(name))]
    with tempfile.TemporaryDirectory() as place:
        folders = {device: Path(place, device) for device in {args.device, "cpu"}}
        runs = [sweep(folder, name, device, args.tiny) for device, folder in folders.items() for name in names]
        failed = [" ".join(run.args) for run in runs if run.wait()]
        there, cpu = (accuracies(folders[device]) for device in (args.device, "cpu"))
    rows = [
        dict(trainer=trainer, classes=classes, accuracy=there[trainer, classes], on_cpu=cpu.get((trainer, classes)))
        for trainer, classes in there
    ]
    if args.out:
        save(args.out, "demo", rows, torch.device(args.device), "fp32")
    sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
