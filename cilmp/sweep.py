"""Run a protocol over trainers, data sets, shots and seeds, and end in its table.

python -m cilmp.sweep base2new busi btmri --trainers CoOp CILMP
python -m cilmp.sweep base2new                                       the embedded data set
python -m cilmp.sweep few_shot busi -- OPTIM.MAX_EPOCH 50            options for every run

Every option has an environment variable of its name (TRAINERS, SEEDS, SHOTS, CFG, DATA, OUTPUT, GPUS, JOBS, LAUNCHER).
Finished runs are skipped, broken ones redone; Ctrl-C or a kill loses at most the runs under way.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cilmp import records, results
from cilmp.cluster import Ray, submit
from cilmp.errors import UserError, exit_on_user_error
from cilmp.jobs import PROTOCOLS, SHOTS, Job, Plan
from cilmp.launchers import Local, forkable
from cilmp.schedule import Schedule

TRAINERS = ("ZeroshotCLIP", "CoOp", "CoCoOp", "MaPLe", "CILMP")
TABLE = {"base2new": "base2new", "few_shot": "few_shot", "full": "metrics", "cross_dataset": "cross"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("protocol", choices=PROTOCOLS)
    add("datasets", nargs="*", help="names in configs/datasets; for cross_dataset the source, then targets")
    add("--trainers", nargs="+", default=words(env("TRAINERS")) or list(TRAINERS))
    add("--seeds", nargs="+", type=int, default=numbers("SEEDS") or [1, 2, 3])
    add("--shots", nargs="+", type=int, default=numbers("SHOTS"), help="images a class; default: the protocol's")
    add("--cfg", default=env("CFG", ""), help="name in configs/trainers/<Trainer>; default: tiny or vit_b16")
    add("--data", default=env("DATA", ""), help="folder that holds the data sets")
    add("--output", default=env("OUTPUT", "output"))
    add("--gpus", default=env("GPUS"), help="ids such as '0 1', '' for none; default: all there are")
    add(
        "--jobs",
        type=int,
        default=(numbers("JOBS") or [0])[0],
        help="runs at once; default: the GPUs, else half the cores (tiny: all)",
    )
    add("--launcher", choices=("local", "slurm", "ray"), default=env("LAUNCHER", "local"))
    add("--sbatch", default=env("SBATCH", ""), help="options for sbatch, e.g. '--partition gpu --gres gpu:1'")
    add("--program", default="", help="another train.py, which registers trainers of its own")
    add("--no-fork", action="store_true", help="start every run as a process of its own")
    add("--dry-run", action="store_true", help="print the runs and their state, and stop")
    args = parser.parse_intermixed_args(argv[:cut])
    args.extra = argv[cut + 1 :]
    return args


def words(text: str | None) -> list[str]:
    return (text or "").replace(",", " ").split()


def numbers(variable: str) -> list[int]:
    text = os.environ.get(variable, "")
    try:
        return [int(word) for word in words(text)]
    except ValueError:
        raise UserError(f"{variable} is '{text}': give whole numbers, such as {variable}='1 2 3'.") from None


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    program = Path(args.program) if args.program else Path(__file__).resolve().parent.parent / "train.py"
    if not program.is_file():
        raise UserError(f"No program {program}: run from a checkout, or give --program.")
    plan = Plan(
        root=Path(os.path.relpath(program.resolve().parent)),
        data=args.data,
        output=Path(args.output),
        datasets=[name.lower() for name in args.datasets] or ["phantoms"],
        trainers=args.trainers,
        seeds=args.seeds,
        shots=args.shots or SHOTS[args.protocol],
        config=args.cfg,
        extra=args.extra,
    )
    plan.check(args.protocol)
    jobs = PROTOCOLS[args.protocol](plan)
    gpus, slots, threads = share(args, plan)
    preload(program, jobs, threads)
    states = {job: job.state() for job in jobs}
    if args.dry_run:
        for job, (state, why) in states.items():
            print(f"# {state}{f' ({why})' if why else ''}\n{job.command(program)}")
        return 0

    todo = announce(args.protocol, states)
    if todo and args.launcher == "slurm":
        folder = plan.output / "slurm" / time.strftime("%Y%m%d-%H%M%S")
        ids = submit(todo, program, folder, args.sbatch.split())
        print(f"Submitted as {', '.join(ids)} ({folder}); once squeue is empty, the same command prints the table.")
        return 0
    failed: dict[Job, str] = {}
    if todo:
        if args.launcher == "ray":
            launcher = Ray(program, args.jobs, bool(gpus))
        else:
            places = [gpus[i % len(gpus)] if gpus else "" for i in range(slots)]
            launcher = Local(program, places, threads, fork=not args.no_fork and forkable())
        schedule = Schedule(jobs, todo, launcher)
        if stopped := schedule.run():
            left = len(todo) - len(schedule.finished)
            print(f"Stopped. {left} runs are left; the same command goes on.", file=sys.stderr)
            return 128 + stopped
        failed = schedule.failed
    report(jobs, args.protocol, failed)
    return 1 if failed else 0


def share(args: argparse.Namespace, plan: Plan) -> tuple[list[str], int, int]:
    """(GPUs, runs at once, threads of each)."""
    gpus = words(args.gpus) if args.gpus is not None else visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    small = all(plan.config_of(data) == "tiny" for data in plan.datasets)  # loses more to a second thread than it gains
    slots = args.jobs or (len(gpus) if gpus else cores if small else max(1, cores // 2))
    return gpus, slots, max(1, cores // slots)


def announce(protocol: str, states: dict[Job, tuple[str, str]]) -> list[Job]:
    """Say what was found -> what there is to do."""
    for job, (state, why) in states.items():
        if state == "differs":
            print(f"note: {job.folder} was run with other options ({why}); it is used as it is. Delete it to redo it.")
    todo = [job for job, (state, _) in states.items() if state in ("missing", "broken")]
    broken = sum(state == "broken" for state, _ in states.values())
    print(f"{protocol}: {len(states)} runs, {len(states) - len(todo)} finished, {broken} broken, {len(todo)} to do")
    return todo


def visible_gpus() -> list[str]:
    """Asked of nvidia-smi: a process that has asked CUDA itself can no longer fork."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return words(os.environ["CUDA_VISIBLE_DEVICES"])
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, line in enumerate(row for row in listed.splitlines() if row.startswith("GPU "))]


def preload(program: Path, jobs: Sequence[Job], threads: int) -> None:
    """Import what the program imports, and let it read every job's config: a slip shows before anything starts."""
    # read when the libraries are loaded; OpenBLAS would start its threads then, before the fork
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    names = runpy.run_path(str(program), run_name="preload")
    if not {"parse_args", "build_cfg"} <= set(names):  # another program: its options stay unknown
        return
    from cilmp.trainers.config import differences

    argv = sys.argv
    try:
        for job in jobs:
            sys.argv = [str(program), *job.arguments]
            job.options = differences(names["build_cfg"](names["parse_args"]()))
    finally:
        sys.argv = argv


def job_record(job: Job) -> dict:
    """Its record; without one, a record of no metric, which tables show as missing."""
    try:
        return records.read(job.folder) | {"path": job.folder}
    except UserError:
        return job.fields | dict(version=records.VERSION, metrics={}, path=job.folder)


def report(jobs: Sequence[Job], protocol: str, failed: dict[Job, str]) -> None:
    """The table of these runs, then what failed and why."""
    runs = [job_record(job) for job in jobs]
    if any(run["metrics"] for run in runs):
        print()
        runs = results.prepare(runs)
        for table in results.TABLES[TABLE[protocol]](runs, "accuracy"):
            print(table.render())
    for job, why in failed.items():
        print(f"FAILED {job.name}: {why}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again.", file=sys.stderr)


if __name__ == "__main__":
    exit_on_user_error(main)
