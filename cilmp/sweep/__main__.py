"""Run a protocol over trainers, data sets, shots and seeds, and end in its table.

cilmp sweep base2new busi btmri --trainers CoOp CILMP
cilmp sweep base2new                                       the embedded data set
cilmp sweep few_shot busi -- OPTIM.MAX_EPOCH 50            options for every run

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
from collections.abc import Callable, Sequence
from pathlib import Path

from cilmp import yamls
from cilmp.errors import UserError, exit_on_user_error
from cilmp.results import records
from cilmp.results.protocols import TABLES
from cilmp.results.runs import order, prepare
from cilmp.sweep.cluster import Ray, submit
from cilmp.sweep.jobs import PROTOCOLS, SHOTS, Job, Plan
from cilmp.sweep.launchers import Local, forkable
from cilmp.sweep.schedule import Schedule

TABLE = {"base2new": "base2new", "few_shot": "few_shot", "full": "metrics", "cross_dataset": "cross"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    env = os.environ.get
    parser = argparse.ArgumentParser(
        prog="cilmp sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("protocol", choices=PROTOCOLS)
    add("datasets", nargs="*", help="names in configs/datasets; for cross_dataset the source, then targets")
    add("--trainers", nargs="+", default=words(env("TRAINERS")), help="default: those that the protocol compares")
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
    program = Path(args.program) if args.program else yamls.PACKAGE / "train.py"
    if not program.is_file():
        raise UserError(f"No program {program}: check --program.")
    plan = Plan(
        configs=nearby(yamls.folder(beside=program)),
        data=args.data,
        output=Path(args.output),
        datasets=[name.lower() for name in args.datasets] or ["phantoms"],
        trainers=args.trainers,
        seeds=args.seeds,
        shots=args.shots or SHOTS[args.protocol],
        config=args.cfg,
        extra=args.extra,
    )
    gpus, slots, threads = share(args, plan)
    names = preload(program, threads)
    facts = names.get("facts")
    plan.trainers = plan.trainers or compared(names, args.protocol)
    plan.check(args.protocol, facts)
    jobs = PROTOCOLS[args.protocol](plan)
    read_options(program, names, jobs)
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
    report(jobs, args.protocol, failed, facts)
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


def nearby(path: Path) -> Path:
    """From here, where it is below: the commands that a dry run prints are to be read."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def preload(program: Path, threads: int) -> dict:
    """Import what the program imports, before its runs are forked -> the program's names."""
    # read when the libraries are loaded; OpenBLAS would start its threads then, before the fork
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    return runpy.run_path(str(program), run_name="preload")


def compared(names: dict, protocol: str) -> list[str]:
    """The trainers of a comparison that names none, in the order of a table."""
    if "trainers" not in names:
        raise UserError("This --program does not say which trainers it has: name them with --trainers.")
    facts = {name: names["facts"](name) for name in names["trainers"]()}
    chosen = [name for name, fact in facts.items() if fact["compared"] and protocol in fact["protocols"]]
    return sorted(chosen, key=lambda name: order(name, facts[name]))


def read_options(program: Path, names: dict, jobs: Sequence[Job]) -> None:
    """Let the program read every job's config: a slip shows before anything starts."""
    if not {"parse_args", "build_cfg", "differences"} <= set(names):  # another program: its options stay unknown
        return
    argv = sys.argv
    try:
        for job in jobs:
            sys.argv = [str(program), *job.arguments]
            job.options = names["differences"](names["build_cfg"](names["parse_args"]()))
    finally:
        sys.argv = argv


def job_record(job: Job, facts: Callable[[str], dict] | None) -> dict:
    """Its record; without one, a record of no metric, which tables show as missing."""
    try:
        record = records.read(job.folder)
    except UserError:
        record = job.fields | dict(version=records.VERSION, metrics={})
    method = record.get("method") or (facts(record["trainer"]) if facts else {})
    return record | dict(method=method, path=job.folder)


def report(jobs: Sequence[Job], protocol: str, failed: dict[Job, str], facts: Callable[[str], dict] | None) -> None:
    """The table of these runs, then what failed and why."""
    runs = [job_record(job, facts) for job in jobs]
    if any(run["metrics"] for run in runs):
        print()
        for table in TABLES[TABLE[protocol]](prepare(runs), "accuracy"):
            print(table.render())
    for job, why in failed.items():
        print(f"FAILED {job.name}: {why}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again.", file=sys.stderr)


if __name__ == "__main__":
    exit_on_user_error(main)
