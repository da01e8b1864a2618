"""Where the runs of a sweep run: forked here, as processes here, on a Ray cluster, or as a SLURM job array.

A run in this machine's own launcher is a fork of a parent that has already imported the program's libraries: torch and
friends take seconds to import, and a run of the embedded default takes about as long. The parent never touches CUDA and
starts no thread, so a fork is as clean as a fresh process; where fork is not safe (macOS, Windows), it is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from cilmp import records
from cilmp.errors import UserError
from cilmp.jobs import STARTED, Job

CONSOLE = "console.txt"  # all a run said, errors included


class Busy(Exception):
    """Another process runs this job right now, or has just finished it."""


@contextlib.contextmanager
def claimed(job: Job):
    """Own the run's folder. The lock goes to the child and ends with it, however it or the sweep dies."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / STARTED, "a+", encoding="utf-8") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: two sweeps at once are the user's to avoid
            pass
        except OSError:
            raise Busy(job.name) from None
        if job.state()[0] in ("done", "differs"):  # meanwhile, by another sweep
            raise Busy(job.name)
        file.seek(0)
        if file.read() and not (job.options or {}).get("TRAIN.CHECKPOINT_FREQ"):
            clear(job.folder)  # a killed run of ours without checkpoints to go on from: begin anew
        file.truncate(0)
        file.write(json.dumps(job.arguments))
        file.flush()
        yield file


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != STARTED:
            path.unlink()


def die_with_parent() -> None:
    """Linux: a killed sweep must not leave runs behind on the GPU."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Forked:
    """A run as a fork of this process."""

    def __init__(self, job: Job, program: Path, environment: dict[str, str]):
        with claimed(job):
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                self.child(job, program, environment, parent)
        self.code: int | None = None

    @staticmethod
    def child(job: Job, program: Path, environment: dict[str, str], parent: int) -> None:
        code = 1
        try:
            os.setsid()  # Ctrl-C goes to the sweep, which ends its runs itself
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
            console = os.open(job.folder / CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(console, 1)
            os.dup2(console, 2)
            sys.stdout = open(1, "w", buffering=1, closefd=False)
            sys.stderr = open(2, "w", buffering=1, closefd=False)
            os.environ.update(environment)
            sys.argv = [str(program), *job.arguments]
            runpy.run_path(str(program), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Spawned:
    """A run as a process of its own."""

    def __init__(self, job: Job, program: Path, environment: dict[str, str]):
        with claimed(job) as lock, open(job.folder / CONSOLE, "wb") as console:
            options = dict(pass_fds=[lock.fileno()], start_new_session=True) if os.name == "posix" else {}
            self.process = subprocess.Popen(
                [sys.executable, str(program), *job.arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
                **options,
            )

    def poll(self) -> int | None:
        return self.process.poll()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number) if os.name == "posix" else self.process.terminate()


class Local:
    """One run a slot; a slot is a GPU or a share of the CPU's cores."""

    def __init__(self, program: Path, slots: Sequence[str], threads: int, fork: bool):
        self.program, self.slots, self.threads = program, list(slots), threads
        self.kind = Forked if fork else Spawned

    def start(self, job: Job, slot: str):
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return self.kind(job, self.program, threads | {"CUDA_VISIBLE_DEVICES": slot})


def forkable() -> bool:
    """Linux, and this process has one thread and no CUDA: what a forked torch needs."""
    threads = Path("/proc/self/task")
    return sys.platform == "linux" and threads.is_dir() and len(list(threads.iterdir())) == 1


def run_one(job: Job, program: Path, environment: dict[str, str] | None = None) -> int:
    """A run from start to end, for a task of a cluster. A finished one is left as it is."""
    if job.state()[0] in ("done", "differs"):
        return 0
    try:
        run = Spawned(job, program, environment or {})
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

    def start(self, job: Job, slot: str) -> RayRun:
        return RayRun(self.ray, self.task.remote(job, self.program))


class RayRun:
    def __init__(self, ray, reference):
        self.ray, self.reference = ray, reference

    def poll(self) -> int | None:
        done, _ = self.ray.wait([self.reference], timeout=0)
        if not done:
            return None
        try:
            return self.ray.get(self.reference)
        except self.ray.exceptions.RayError as error:
            print(f"Ray: {error}", file=sys.stderr)
            return 1

    def signal(self, number: int) -> None:
        self.ray.cancel(self.reference, force=number == signal.SIGKILL)


SCRIPT = """#!/bin/bash
# {count} runs, one a task; submitted by: python -m cilmp.sweep
#SBATCH --job-name=cilmp
#SBATCH --array=0-{last}
#SBATCH --output={folder}/%A_%a.txt
exec {python} -m cilmp.launchers {file} "$SLURM_ARRAY_TASK_ID"
"""


def submit(jobs: Sequence[Job], program: Path, folder: Path, options: Sequence[str]) -> list[str]:
    """Write and submit a job list and a batch script for each wave, which waits for the one before. -> job ids."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pending, ids = set(jobs), []
    waves = [[job for job in jobs if job.after not in pending], [job for job in jobs if job.after in pending]]
    for number, wave in enumerate(wave for wave in waves if wave):
        file, script = folder / f"wave{number}.json", folder / f"wave{number}.sh"
        rows = [dict(folder=str(j.folder), arguments=j.arguments, fields=j.fields, options=j.options) for j in wave]
        file.write_text(json.dumps(dict(program=str(program.resolve()), folder=os.getcwd(), jobs=rows), indent=1))
        names = dict(folder=folder, python=sys.executable, file=file)
        script.write_text(SCRIPT.format(count=len(wave), last=len(wave) - 1, **names))
        wait = [f"--dependency=afterany:{ids[-1]}"] if ids else []
        try:
            run = subprocess.run(
                ["sbatch", "--parsable", *wait, *options, str(script)], capture_output=True, text=True, check=True
            )
        except FileNotFoundError:
            raise UserError("LAUNCHER=slurm needs sbatch on the PATH: start the sweep on a login node.") from None
        except subprocess.CalledProcessError as error:
            raise UserError(f"sbatch refused {script}: {error.stderr.strip()}") from None
        ids.append(run.stdout.strip().split(";")[0])
    return ids


def task(file: str, index: int) -> int:
    """One task of the array: job `index` of the list."""
    listed = json.loads(Path(file).read_text())
    os.chdir(listed["folder"])
    row = listed["jobs"][index]
    job = Job(Path(row["folder"]), row["arguments"], row["fields"], options=row["options"])
    code = run_one(job, Path(listed["program"]))
    print(f"{job.name}: {'done' if (job.folder / records.NAME).exists() else f'failed, see {job.folder / CONSOLE}'}")
    return code


if __name__ == "__main__":
    sys.exit(task(sys.argv[1], int(sys.argv[2])))
