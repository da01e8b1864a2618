"""The runs of a sweep on this machine.

A run is a fork of a parent that has already imported the program's libraries: torch and friends take seconds to import,
and a run of the embedded default takes about as long. The parent never touches CUDA and starts no thread, so a fork is
as clean as a fresh process; where fork is not safe (macOS, Windows, a parent with threads), it is one.
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
import traceback
from collections.abc import Sequence
from pathlib import Path

from cilmp.sweep.jobs import STARTED, Job, started

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
                [sys.executable, *started(program), *job.arguments],
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
