"""Run a protocol over trainers, data sets, shots and seeds, and end in its table.

cilmp sweep base2new busi btmri --trainers CoOp CILMP
cilmp sweep base2new                                       the embedded data set
cilmp sweep few_shot busi -- OPTIM.MAX_EPOCH 50            options for every run
cilmp sweep few_shot busi -- OPTIM.LR=0.001,0.002          a grid of options: every run with each

Every option has an environment variable of its name (TRAINERS, SEEDS, SHOTS, CFG, DATA, OUTPUT, GPUS, JOBS, LAUNCHER).
Finished runs are skipped, broken ones redone; Ctrl-C or a kill loses at most the runs under way.
"""

from __future__ import annotations

import argparse
import functools
import os
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cilmp import system, yamls
from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import need_place
from cilmp.results import beside, published, records
from cilmp.results.protocols import TABLES
from cilmp.results.runs import order, prepare
from cilmp.sweep import gpus, grid, options
from cilmp.sweep.cluster import Ray, submit
from cilmp.sweep.jobs import EMBEDDED, PROTOCOLS, SHOTS, Facts, Job, Plan
from cilmp.sweep.launchers import Launcher, Local
from cilmp.sweep.schedule import Schedule

TABLE = {
    "base2new": "base2new",
    "few_shot": "few_shot",
    "full": "metrics",
    "cross_dataset": "cross",
    "domain_generalisation": "domains",
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog="cilmp sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    datasets = "names in configs/datasets; for cross_dataset and domain_generalisation the source, then targets"
    parser.add_argument("datasets", nargs="*", help=datasets)
    add = functools.partial(options.add, parser)
    add("trainers", "in configs/trainers, or all; default: those that the protocol compares", many=True, default=[])
    add("seeds", kind=options.whole(0, 2**32 - 1), many=True, default=[1, 2, 3])
    shots = options.whole(1, besides={-1: "all"})
    add("shots", "images a class, -1 for all; default: the protocol's", kind=shots, many=True)
    add("cfg", "name in configs/trainers/<Trainer>; default: tiny or vit_b16", default="")
    add("data", "folder that holds the data sets", default="")
    add("output", default="output")
    add("jobs", "runs at once; default: the GPUs, else half the cores (tiny: all)", kind=options.whole(1))
    add("launcher", "local, slurm or ray", kind=options.one_of("local", "slurm", "ray"), default="local")
    add("sbatch", "options for sbatch, e.g. '--partition gpu --gres gpu:1'", kind=options.command, default=[])
    parser.add_argument(
        "--gpus", default=os.environ.get("GPUS"), help="ids such as '0 1', '' for none; default: all there are"
    )
    parser.add_argument("--program", default="", help="another train.py, which registers trainers of its own")
    parser.add_argument("--beside", nargs="?", const=published.shipped(), metavar="FILE", help=beside.HELP)
    parser.add_argument("--no-fork", action="store_true", help="start every run as a process of its own")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their state, and stop")
    args = parser.parse_intermixed_args(argv[:cut])
    args.extra, args.points = grid.parse(argv[cut + 1 :])
    embedded = EMBEDDED if args.protocol == "domain_generalisation" else EMBEDDED[:1]
    args.datasets = [name.lower() for name in args.datasets] or list(embedded)
    for name in ("datasets", "trainers", "seeds", "shots"):
        options.once(name, getattr(args, name) or [])
    if args.beside:
        published.read(args.beside)
    if args.launcher == "local" and args.data and not Path(args.data).expanduser().is_dir():
        raise UserError(f"No folder {args.data}: check --data (or DATA).")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    program = Path(args.program) if args.program else yamls.PACKAGE / "train.py"
    if not program.is_file():
        raise UserError(f"No program {program}: check --program.")
    plan = Plan(
        protocol=args.protocol,
        configs=nearby(yamls.folder(beside=program)),
        data=args.data,
        output=Path(args.output),
        datasets=args.datasets,
        trainers=args.trainers,
        seeds=args.seeds,
        shots=args.shots or SHOTS[args.protocol],
        config=args.cfg,
        extra=args.extra,
    )
    devices, slots, threads = share(args, plan)
    names = preload(program, threads)
    facts = names.get("facts")
    if plan.trainers in ([], ["all"]):
        plan.trainers = served(names, args.protocol, everyone=bool(plan.trainers))
    plan.check(facts)
    jobs = [job for point in args.points for job in PROTOCOLS[args.protocol](point.of(plan))]
    read_options(program, names, jobs)
    states = {job: job.state() for job in jobs}
    if args.dry_run:
        for job, (state, why) in states.items():
            print(f"# {state}{f' ({why})' if why else ''}\n{job.command(program)}")
        return 0

    todo = announce(args.protocol, states)
    if todo:
        need_place(plan.output, "check --output (or OUTPUT)")
    if todo and args.launcher == "slurm":
        folder = plan.output / "slurm" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        ids = submit(todo, program, folder, args.sbatch)
        print(f"Submitted as {', '.join(ids)} ({folder}); once squeue is empty, the same command prints the table.")
        return 0
    failed: dict[Job, str] = {}
    if todo:
        launcher: Launcher
        if args.launcher == "ray":
            launcher = Ray(program, args.jobs, bool(devices))
        else:
            places = [devices[i % len(devices)] if devices else "" for i in range(slots)]
            launcher = Local(program, places, threads, fork=not args.no_fork and system.forkable())
        schedule = Schedule(jobs, todo, launcher)
        if stopped := schedule.run():
            left = len(todo) - len(schedule.finished)
            print(f"Stopped. {left} runs are left; the same command goes on.", file=sys.stderr)
            return 128 + stopped
        failed = schedule.failed
    report(jobs, args.protocol, failed, facts, args.beside)
    return 1 if failed else 0


def share(args: argparse.Namespace, plan: Plan) -> tuple[list[str], int, int]:
    """(GPUs, runs at once, threads of each)."""
    devices = options.words(args.gpus) if args.gpus is not None else gpus.visible()
    if args.gpus is not None and args.launcher == "local":
        gpus.check(devices)
    cores = system.cores()
    # a toy loses more to a second thread than it gains
    small = all(plan.config_of(data).startswith("tiny") for data in plan.datasets)
    slots = args.jobs or (len(devices) if devices else cores if small else max(1, cores // 2))
    return devices, slots, max(1, cores // slots)


def announce(protocol: str, states: dict[Job, tuple[str, str]]) -> list[Job]:
    """Say what was found -> what there is to do.  UserError where the table would claim what was not asked."""
    if unlike := [(job.folder, why) for job, (state, why) in states.items() if state == "differs"]:
        folder, why = unlike[0]
        others = f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""
        raise UserError(
            f"{folder}{others} has been run with other options ({why}): give this sweep another --output (or OUTPUT), "
            "ask for those options, or delete what is there; `results` shows its table."
        )
    todo = [job for job, (state, _) in states.items() if state in ("missing", "broken")]
    broken = sum(state == "broken" for state, _ in states.values())
    print(f"{protocol}: {len(states)} runs, {len(states) - len(todo)} finished, {broken} broken, {len(todo)} to do")
    return todo


def nearby(path: Path) -> Path:
    """From here, where it is below: the commands that a dry run prints are to be read."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def preload(program: Path, threads: int) -> dict[str, Any]:
    """Import what the program imports, before its runs are forked -> the program's names."""
    # read when the libraries are loaded; OpenBLAS would start its threads then, before the fork
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    return runpy.run_path(str(program), run_name="preload")


def served(names: dict[str, Any], protocol: str, everyone: bool) -> list[str]:
    """Trainers that serve the protocol, in the order of a table: of a comparison that names none, or all there are."""
    if "trainers" not in names:
        raise UserError("This --program does not say which trainers it has: name them with --trainers.")
    facts = {name: names["facts"](name) for name in names["trainers"]()}
    chosen = [name for name, fact in facts.items() if protocol in fact["protocols"] and (everyone or fact["compared"])]
    return sorted(chosen, key=lambda name: order(name, facts[name]))


def read_options(program: Path, names: dict[str, Any], jobs: Sequence[Job]) -> None:
    """Let the program read every job's config: a slip shows before anything starts."""
    if not {"parse_args", "build_cfg", "differences"} <= set(names):  # another program: its options stay unknown
        return
    argv = sys.argv
    try:
        for job in jobs:
            sys.argv = [str(program), *job.arguments]
            cfg = names["build_cfg"](names["parse_args"]())
            job.options, job.made_from = names["differences"](cfg), names.get("made_from", lambda cfg: {})(cfg)
    finally:
        sys.argv = argv


def job_record(job: Job, facts: Facts | None) -> dict[str, Any]:
    """Its record; without one, a record of no metric, which tables show as missing."""
    try:
        record = records.read(job.folder)
    except UserError:
        record = job.fields | dict(version=records.VERSION, metrics={}, options=job.options or {})
        record |= dict(model_dir=str(job.after.folder) if job.after else "")
    method = record.get("method") or (facts(record["trainer"]) if facts else {})
    return record | dict(method=method, path=job.folder)


def report(
    jobs: Sequence[Job], protocol: str, failed: dict[Job, str], facts: Facts | None, figures: str | None = None
) -> None:
    """The table of these runs, published figures beside them where asked for, then what failed and why, in any case."""
    try:
        runs = prepare([job_record(job, facts) for job in jobs])
        if any(run["metrics"] for run in runs):
            print()
            for table in TABLES[TABLE[protocol]](runs, "accuracy"):
                print(table.render())
            for table in beside.shown(runs, figures) if figures else []:
                print(table.render())
    finally:
        for job, why in failed.items():
            print(f"FAILED {job.name}: {why}", file=sys.stderr)
        if failed:
            print(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again.", file=sys.stderr)


if __name__ == "__main__":
    exit_on_user_error(main)
