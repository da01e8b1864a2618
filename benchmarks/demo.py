"""The embedded demo with one seed, on a device and on the CPU: does each run end with the same accuracy?

    python benchmarks/demo.py --device cuda --out benchmarks/results

Exact equality is not to be expected: sums run in another order, and a GPU draws other dropout masks (CILMP's).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rows import save

from cilmp.results import records


def accuracies(folder: Path, device: str, args: argparse.Namespace) -> dict[tuple[str, str], float]:
    """(trainer, base or new) -> accuracy in %, of a sweep that runs here."""
    command = [
        sys.executable,
        "-m",
        "cilmp.sweep",
        "base2new",
        *(["--trainers", *args.trainers] if args.trainers else []),
    ]
    command += ["--seeds", "1", "--output", str(folder), "--data", str(folder.parent)]
    command += ["--shots", "1"] if args.tiny else []
    command += ["--", "USE_CUDA", str(device != "cpu"), *(["OPTIM.MAX_EPOCH", "1"] if args.tiny else [])]
    subprocess.run(command, check=True)
    found = [records.read(path.parent) for path in sorted(folder.rglob("result.json"))]
    return {(record["trainer"], record["classes"]): record["metrics"]["accuracy"] for record in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", help="default: those that the demo compares")
    parser.add_argument("--tiny", action="store_true", help="one epoch of one shot, to test this program")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        there = accuracies(Path(folder, "device"), args.device, args)
        cpu = accuracies(Path(folder, "cpu"), "cpu", args) if args.device != "cpu" else there
    rows = [
        dict(trainer=trainer, classes=classes, accuracy=there[trainer, classes], on_cpu=cpu[trainer, classes])
        for trainer, classes in there
    ]
    if args.out:
        save(args.out, "demo", rows, torch.device(args.device), "fp32")


if __name__ == "__main__":
    main()
