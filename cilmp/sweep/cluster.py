"""The runs of a sweep on a cluster: tasks of a Ray cluster, or a SLURM job array."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cilmp import system
from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import write_text
from cilmp.results import records
from cilmp.sweep.jobs import Job
from cilmp.sweep.launchers import ALONE, CONSOLE, Busy, Run, Spawned


def run_one(job: Job, program: Path, environment: dict[str, str] | None = None) -> int:
    """A run from start to end, for a task of a cluster. A finished one is left as it is."""
    state, why = job.state()
    if state == "differs":
        raise UserError(f"{job.folder} has been run with other options ({why}): choose another --output.")
    if state == "done":
        return 0
    try:
        run = Spawned(job, program, ALONE | (environment or {}))
    except Busy:
        print(f"{job.name} is running elsewhere")
        return 0
    with contextlib.suppress(ValueError):  # Ray may run a task in a thread
        signal.signal(signal.SIGTERM, lambda number, frame: run.signal(number))
    try:
        while (code := run.poll()) is None:
            time.sleep(0.2)
    except BaseException:  # Ray cancels a task by an exception
        run.signal(signal.SIGTERM)
        raise
    return code


class Ray:
    """A run a task of a Ray cluster that sees this file system. RAY_ADDRESS says which; without, one starts here."""

    def __init__(self, program: Path, slots: int | None, gpus: bool):
        try:
            import ray
        except ImportError:
            raise UserError("LAUNCHER=ray needs Ray: pip install ray.") from None
        self.ray, self.program = ray, program.resolve()
        ray.init(log_to_driver=False, ignore_reinit_error=True)
        have = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
        self.slots = [""] * (slots or (have if gpus else max(1, have // 2)))
        per = dict(num_gpus=1) if gpus else dict(num_cpus=max(1, have // len(self.slots)))
        self.task = ray.remote(max_retries=0, **per)(run_one)

    def start(self, job: Job, slot: str) -> Run:
        return RayRun(self.ray, self.task.remote(job, self.program))


class RayRun:
    def __init__(self, ray: Any, reference: Any):
        self.ray, self.reference, self.stopped = ray, reference, False

    def poll(self) -> int | None:
        done, _ = self.ray.wait([self.reference], timeout=0)
        if not done:
            return None
        try:
            return int(self.ray.get(self.reference))
        except self.ray.exceptions.RayError as error:
            if not self.stopped:
                print(f"Ray: {error}", file=sys.stderr)
            return 1

    def signal(self, number: int) -> None:
        self.stopped = True
        self.ray.cancel(self.reference, force=number == system.KILL)


SCRIPT = """#!/bin/bash
# {count} runs, one a task; submitted by: cilmp sweep
#SBATCH --job-name=cilmp
#SBATCH --array=0-{last}
exec {python} -m cilmp.sweep.cluster {file} "$SLURM_ARRAY_TASK_ID"
"""


def submit(jobs: Sequence[Job], program: Path, folder: Path, options: Sequence[str]) -> list[str]:
    """Write and submit a job list and a batch script for each wave, which waits for the one before. -> job ids."""
    folder, ids = folder.resolve(), list[str]()
    log = f"--output={str(folder).replace('%', '%%')}/%A_%a.txt"
    pending = set(jobs)
    waves = [[job for job in jobs if job.after not in pending], [job for job in jobs if job.after in pending]]
    for number, wave in enumerate(wave for wave in waves if wave):
        file, script = folder / f"wave{number}.json", folder / f"wave{number}.sh"
        named = ("arguments", "fields", "options", "made_from")
        rows = [{"folder": str(job.folder)} | {name: getattr(job, name) for name in named} for job in wave]
        listed = dict(program=str(program.resolve()), folder=os.getcwd(), jobs=rows)
        write_text(file, json.dumps(listed, indent=1), "check --output")
        names = dict(python=shlex.quote(sys.executable), file=shlex.quote(str(file)))
        write_text(script, SCRIPT.format(count=len(wave), last=len(wave) - 1, **names), "check --output")
        wait = [f"--dependency=afterany:{ids[-1]}"] if ids else []
        command = ["sbatch", "--parsable", log, *wait, *options, str(script)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise UserError("LAUNCHER=slurm needs sbatch on the PATH: start the sweep on a login node.") from None
        except subprocess.CalledProcessError as error:
            raise UserError(f"sbatch refused {script}: {error.stderr.strip()}") from None
        ids.append(run.stdout.strip().split(";")[0])
    return ids


def task(file: str, index: int) -> int:
    """One task of the array: job `index` of the list."""
    listed = json.loads(Path(file).read_text(encoding="utf-8"))
    os.chdir(listed["folder"])
    row = listed["jobs"][index]
    job = Job(Path(row.pop("folder")), **row)
    code = run_one(job, Path(listed["program"]))
    print(f"{job.name}: {'done' if (job.folder / records.NAME).exists() else f'failed, see {job.folder / CONSOLE}'}")
    return code


def main() -> int:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        raise UserError(
            "This program is for the batch scripts that LAUNCHER=slurm writes: FILE, then the task's number."
        )
    return task(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    exit_on_user_error(main)
