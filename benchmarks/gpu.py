"""What is to be proven and measured on a GPU, part after part, into one folder (scripts/gpu.sh).

A part is a program of its own with a time limit: if it fails, the rest goes on, and what it had found stays.  OUT holds
gpu.json (all rows), summary.md, log.txt and trace.json.gz.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
HOUSE = (*"torch torchvision numpy PIL tqdm safetensors yacs tabulate clip ftfy wcwidth regex pkg_resources".split(),)
WHEEL = {"PIL": "pillow", "sklearn": "scikit-learn", "clip": "clip-anytorch", "pkg_resources": "setuptools"}
LARGEST = 16 << 20  # bytes of a file in OUT


@dataclass(frozen=True)
class Part:
    """command: a program of benchmarks/ and its arguments, or a module and its.  seconds: the limit, whole and --quick;
    a part that --quick leaves out has none."""

    name: str
    command: Sequence[str]
    seconds: tuple[int, int | None]
    quick: Sequence[str] = ()  # more arguments, which win over those ahead of them
    needs: Sequence[str] = HOUSE


SETTINGS = ["--no-counts", "--classes", "2", "8", "22", "100", "--batch", "8", "64"]
AUTHORS = ["--classes", "8", "22", "--batch", "64"]
FEW = [*AUTHORS, "--trainers", "CoOp", "CILMP"]
MANY = "BiomedCoOp CILMP CLIPLoRA CoCoOp CoOp FullFineTune IVLP KgCoOp MaPLe ProGrad PromptSRC TCP VPT".split()
EVERY = ["--precision", "amp", "--classes", "8", "--batch", "64", "--name", "every", "--trainers", *MANY]
PARTS = [
    Part(
        "tests",
        ["-m", "pytest", "-q", "tests/test_gpu.py"],
        (120, 65),
        ["-k", "not fp32 and not resumed"],
        (*HOUSE, "pytest"),
    ),
    Part("trace", ["trace.py", "--precision", "bf16"], (25, 25)),
    Part("extraction", ["extraction.py"], (40, 30), ["--tokens", "64"], ("torch", "tqdm", "transformers")),
    Part("epoch", ["epoch.py", "--classes", "8"], (65, 35), ["--images", "640", "--workers", "4"]),
    Part("step bf16", ["step.py", "--precision", "bf16", *SETTINGS, "--name", "bf16"], (80, 35), FEW),
    Part("step amp", ["step.py", "--precision", "amp", *FEW, "--name", "amp"], (35, None)),
    Part("step fp32", ["step.py", "--precision", "fp32", *FEW, "--name", "fp32"], (35, None)),
    Part("step literal", ["step.py", "--precision", "bf16", "--literal", *FEW, "--name", "literal"], (40, None)),
    Part("step every", ["step.py", *EVERY], (50, None)),
    Part("graph", ["graph.py", "--classes", "8", "--batch", "64"], (30, None)),
    Part("demo", ["demo.py", "--trainers", "CoOp", "CILMP"], (80, 45), ["--trainers", "CoOp"], (*HOUSE, "sklearn")),
]
TINY = {  # arguments that make of each part a toy
    "tests": ["-k", "CoOp and fp32"],
    "trace": ["--tiny", "--classes", "2", "--batch", "2"],
    "extraction": ["--tiny", "--tokens", "3"],
    "epoch": ["--tiny", "--images", "8", "--batch", "4", "--workers", "0", "--precision", "fp32"],
    "step": ["--tiny", "--classes", "2", "--batch", "2", "--repeats", "1", "--trainers", "CILMP", "--no-memory"],
    "graph": ["--tiny", "--classes", "2", "--batch", "2", "--ways", "eager", "--precision", "fp32"],
    "demo": ["--tiny", "--trainers", "ZeroshotCLIP"],
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the most telling settings, in under four minutes")
    parser.add_argument("--parts", nargs="+", default=names, choices=names, help="only these")
    parser.add_argument("--device", default="cuda", help="cpu tests this program, with --tiny")
    parser.add_argument("--tiny", action="store_true", help="toys, to test this program")
    return parser.parse_args(argv)


def find_wheels(folder: str, into: Path, packages: Sequence[str]) -> None:
    """Install into a folder of this run what is missing, from wheels alone."""
    for package in packages:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", folder]
        subprocess.run([*pip, "--target", str(into), WHEEL.get(package, package)], check=False)


def missing(packages: Sequence[str], beside: Path) -> list[str]:
    found = {path.name for path in beside.iterdir()} | {path.stem for path in beside.glob("*.py")}
    return [name for name in packages if name not in found and importlib.util.find_spec(name) is None]


def run(part: Part, args: argparse.Namespace, out: Path, environment: dict[str, str], log: Path) -> dict:
    """How a part ended: what happened, its seconds, its rows, its last lines."""
    limit = part.seconds[args.quick]
    module = part.command[0] == "-m"
    command = [sys.executable, *part.command] if module else [sys.executable, HERE / part.command[0], *part.command[1:]]
    command += [*(part.quick if args.quick else ()), *(TINY[part.name.split()[0]] if args.tiny else ())]
    command += [] if module else ["--device", args.device, "--out", out]
    out.mkdir()
    start, ended = time.perf_counter(), ""
    with log.open("w", encoding="utf-8") as file:
        file.write(f"== {part.name}: {' '.join(str(word) for word in command[1:])}\n")
        file.flush()
        where = dict(cwd=HERE.parent, env=environment, stdout=file, stderr=subprocess.STDOUT)
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **where)
        try:
            code = process.wait(limit)
            ended = "" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"cut after {limit} s; its rows are those it had"
            stop(process)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    seconds = round(time.perf_counter() - start, 1)
    return dict(part=part.name, ended=ended or "well", seconds=seconds, results=rows, said=said[-12:])


def stop(process: subprocess.Popen) -> None:
    """A part with the workers it started, and nobody else: it leads a group of its own."""
    os.killpg(process.pid, 9)
    process.wait()


def facts(environment: dict[str, str]) -> dict:
    """Of the machine, asked of a process of its own: a driver that fails takes only that one along."""
    script = (
        "import json, torch; c = torch.cuda.is_available(); p = torch.cuda.get_device_properties(0) if c else None; "
        "print(json.dumps(dict(torch=torch.__version__, cuda=torch.version.cuda, "
        "device=p.name if c else 'no GPU', memory_gb=p.total_memory / 1e9 if c else None)))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    found = json.loads(told.stdout) if told.returncode == 0 else dict(device=told.stderr[-500:])
    return found | dict(python=sys.version.split()[0], cores=os.cpu_count())


def write(out: Path, whole: dict, logs: Sequence[Path]) -> None:
    """After each part, so that a killed run leaves what it has."""
    from summary import markdown

    from cilmp.files import writing

    for name, text in {
        "gpu.json": json.dumps(whole, indent=1) + "\n",
        "summary.md": markdown(whole),
        "log.txt": "".join(log.read_text(encoding="utf-8", errors="replace")[-LARGEST // 32 :] for log in logs),
    }.items():
        with writing(out / name, mend="check OUT") as file:
            file.write(text)


def main(argv: Sequence[str] | None = None) -> int:
    args, out = parse_args(argv), Path(os.environ.get("OUT", "gpu-results"))
    parts = [part for part in PARTS if part.name in args.parts and part.seconds[args.quick]]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        extra = place / "packages"
        extra.mkdir()
        wanted = {package: None for part in parts for package in part.needs}
        absent = missing(list(wanted), extra)
        if absent and os.environ.get("WHEELS"):
            find_wheels(os.environ["WHEELS"], extra, absent)
        paths = [str(extra), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | dict(PYTHONPATH=os.pathsep.join(paths), DEVICE=args.device, HF_HUB_OFFLINE="1")
        found = facts(environment)
        if args.device == "cuda" and found["device"] == "no GPU":
            print("No GPU: PyTorch sees none here. --device cpu --tiny tests this program.", file=sys.stderr)
            return 1
        whole = dict(facts=found, quick=args.quick, missing=missing(list(wanted), extra), parts=[])
        if whole["missing"]:
            print(f"Missing: {', '.join(whole['missing'])} (WHEELS=folder adds wheels); parts without need of it go on")
        logs: list[Path] = []
        for part in parts:
            lacks = missing(part.needs, extra)
            if lacks:
                whole["parts"].append(dict(part=part.name, ended=f"left out: no {', '.join(lacks)}", seconds=0))
            else:
                logs.append(place / f"{part.name}.log")
                whole["parts"].append(run(part, args, place / part.name, environment, logs[-1]))
                for trace in (place / part.name).glob("trace.json.gz"):
                    if trace.stat().st_size <= LARGEST:
                        out.mkdir(parents=True, exist_ok=True)
                        shutil.copy(trace, out / trace.name)
            done = whole["parts"][-1]
            print(f"{done['part']}: {done['ended']} ({done['seconds']} s)", flush=True)
            write(out, whole, logs)
    print(out / "summary.md")
    return int(any(part["ended"] != "well" for part in whole["parts"]))


if __name__ == "__main__":
    sys.exit(main())
