"""What tables and the report of many runs cost: seconds and peak memory of the two programs over synthetic runs.

    python benchmarks/tables.py --out benchmarks/results

3,000 runs: 10 trainers, 20 data sets of 8 classes and 150 to 340 test images, three shot counts, five seeds, each with
its predictions and a log; then one run of 1,000 classes.  The numbers in them are random.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cilmp.results import metrics, records
from cilmp.results.predictions import Predictions

TRAINERS, SHOTS, SEEDS = [f"Method{i}" for i in range(10)], (1, 4, 16), (1, 2, 3, 4, 5)
DATASETS = {f"SET{i:02}": 150 + 10 * i for i in range(20)}  # test images


def run(place: Path, trainer: str, data: str, images: int, shots: int, seed: int, classes: int = 8) -> None:
    rng = np.random.default_rng([TRAINERS.index(trainer), images, shots, seed])
    labels = np.arange(images) % classes
    logits = rng.normal(size=(images, classes)) + (1 + 0.1 * TRAINERS.index(trainer)) * np.eye(classes)[labels]
    names = [f"finding {i}" for i in range(classes)]
    recall = metrics.per_class(logits.argmax(1), labels, classes).tolist()
    record = dict(version=records.VERSION, trainer=trainer, dataset=data, config="vit_b16", backbone="ViT-B/16")
    record |= dict(classes="all", split="test", shots=shots, seed=seed, options={"DATASET.ROOT": "data"}, model_dir="")
    record |= dict(per_class=dict(zip(names, recall, strict=True)), metrics=metrics.scores(logits, labels))
    place.mkdir(parents=True)
    Predictions(logits, labels, [f"data/{data}/{i:04}.png" for i in range(images)], names).write(place)
    lines = [f"epoch [{e}/50] batch [1/1] time 0.1 (0.1) loss {2 / e:.4f} ({2 / e:.4f}) lr 0.1" for e in range(1, 51)]
    (place / "log.txt").write_text("\n".join(lines), encoding="utf-8")
    records.write(place / records.NAME, record)


def measure(*words: object) -> dict[str, float]:
    """Of a program that succeeds: seconds on the clock and of the processor, peak memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, words
    taken = dict(seconds=time.perf_counter() - start, cpu_seconds=used.ru_utime + used.ru_stime)
    return {name: round(value, 1) for name, value in taken.items()} | dict(peak_mb=round(used.ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON")
    parser.add_argument("--runs", type=Path, help="folder of the synthetic runs, kept between calls")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        many, wide = (args.runs or Path(spare)) / "many", (args.runs or Path(spare)) / "wide"
        if not many.exists():
            for data, images in DATASETS.items():
                for trainer in TRAINERS:
                    for shots in SHOTS:
                        for seed in SEEDS:
                            place = many / data / trainer / f"vit_b16_{shots}shots" / f"seed{seed}"
                            run(place, trainer, data, images, shots, seed)
            run(wide / "seed1", TRAINERS[0], "WIDE", 2000, 16, 1, classes=1000)
        page = Path(spare, "report.html")
        told: dict[str, object] = {
            "3000 runs, --compare": measure("cilmp.results", many, "--compare", "Method9"),
            "3000 runs, report --compare": measure(
                "cilmp.analysis.report", many, "--compare", "Method9", "--out", page
            ),
            "1000 classes, report": measure("cilmp.analysis.report", wide, "--out", page),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
    print(json.dumps(told, indent=1))
    if args.out:
        (args.out / "tables_cpu.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
