"""`python -m cilmp.datasets check` on 2,500 to 10,000 images: seconds and peak memory of its processes.

    python benchmarks/check.py --out benchmarks/results

Images are 224 x 224 JPEGs of about 10 KB, all different, so that nothing is found and everything is compared.  The
target is 10,000 images in less than 120 seconds on two cores, with memory that does not grow with the images decoded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from cilmp.datasets import splits
from cilmp.datasets.prepare.fingerprints import cores

SIZES = (2500, 5000, 10000)


def draw(folder: Path, n: int) -> None:
    for i in range(n):
        rng = np.random.default_rng(i)
        pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
        path = folder / f"images/class_{i % 4}/{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=85)


def write(folder: Path, n: int) -> None:
    items = [splits.Item(f"class_{i % 4}/{i}.jpg", i % 4, f"class {i % 4}") for i in range(n)]
    cut = n * 7 // 10, n * 8 // 10
    split = {"train": items[: cut[0]], "val": items[cut[0] : cut[1]], "test": items[cut[1] :]}
    splits.write(folder / "split.json", split)


def measure(folder: Path) -> dict:
    """One run in a process of its own, which reports its peak memory and that of its largest worker."""
    program = (
        "import json, resource, sys\n"
        "from cilmp.datasets.prepare.check import check, failed\n"
        "from cilmp.datasets.folder import FOLDER\n"
        f"report = check(FOLDER, {str(folder)!r})\n"
        "peak = {k: resource.getrusage(w).ru_maxrss // 1024 for k, w in"
        " (('main', resource.RUSAGE_SELF), ('worker', resource.RUSAGE_CHILDREN))}\n"
        "print(json.dumps({'failed': failed(report), 'peak_mib': peak}))\n"
    )
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used, 1),
        **json.loads(done.stdout.splitlines()[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), max(SIZES))
        for n in SIZES:
            write(Path(folder), n)
            rows.append({"images": n, **measure(Path(folder))})
            print(rows[-1])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "what": "check of FOLDER, 224 px JPEG; peak memory in MiB of the main and the largest worker process",
        "device": f"{platform.machine()}, {cores()} cores",
        "load_average_before": os.getloadavg()[0],
        "commit": commit,
        "versions": {name: metadata.version(name) for name in ("numpy", "pillow", "imagehash")}
        | {"python": platform.python_version()},
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "check_cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
