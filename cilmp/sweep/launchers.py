"""The runs of a sweep on this machine.

A run is a fork of a parent that has already imported the program's libraries: torch and friends take seconds to import,
and a run of the embedded default takes about as long. The parent never touches CUDA and starts no thread, so a fork is
as clean as a fresh process; where fork is not safe (macOS, Windows, a parent with threads), it is one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

from cilmp import system
from cilmp.errors import UserError
from cilmp.files import leftovers
from cilmp.sweep.jobs import STARTED, Job, started

CONSOLE = "console.txt"  # all a run said, errors included
ALONE = {"WORLD_SIZE": "1"}  # a run is one process, whatever the sweep itself is part of


class Busy(Exception):
    """Another process runs this job right now, or has just finished it."""


class Run(Protocol):
    def poll(self) -> int | None:
        """The exit code, once it has ended; minus the signal that ended it."""

    def signal(self, number: int) -> None: ...


class Launcher(Protocol):
    slots: list[str]

    def start(self, job: Job, slot: str) -> Run:
        """Busy where another process has the job; UserError or OSError where it cannot be started."""


@contextlib.contextmanager
def claimed(job: Job) -> Iterator[tuple[IO[str], IO[bytes]]]:
    """Own the run's folder -> (the lock, the console). The lock goes to the child and ends with it, however it dies."""
    with contextlib.ExitStack() as stack:
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(job.folder / STARTED, "a+", encoding="utf-8"))
            own(job, lock)
            console = stack.enter_context(open(job.folder / CONSOLE, "wb"))
        except BlockingIOError:
            raise Busy(job.name) from None
        except OSError as error:
            place, why = error.filename or job.folder, error.strerror or error
            raise UserError(f"Cannot write {place} ({why}): check --output.") from None
        yield lock, console


def own(job: Job, lock: IO[str]) -> None:
    """Lock the folder; of what lies there only the checkpoints of a killed run with equal options stay."""
    if why := system.lock(lock):
        say_once(f"note: files cannot be locked here ({why}): start no other sweep of these runs before this one ends")
    if job.state()[0] in ("done", "differs"):  # meanwhile, by another sweep
        raise Busy(job.name)
    lock.seek(0)
    before, now = lock.read(), json.dumps(job.asked() if job.options is not None else job.arguments, sort_keys=True)
    if before and (before != now or not (job.options or {}).get("TRAIN.CHECKPOINT_FREQ")):
        clear(job.folder)
    for path in leftovers(job.folder):
        path.unlink()
    if before != now:  # after clearing: a kill in between clears again
        lock.truncate(0)
        lock.write(now)
        lock.flush()


@functools.cache
def say_once(note: str) -> None:
    print(note, file=sys.stderr)


def clear(folder: Path) -> None:
    """Of all but the mark; what a link leads to is not ours."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != STARTED:
            path.unlink()


class Forked:
    """A run as a fork of this process."""

    def __init__(self, job: Job, program: Path, environment: dict[str, str]):
        with claimed(job) as (_, console):
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                self.child(job, program, environment, parent, console.fileno())
        self.code: int | None = None

    @staticmethod
    def child(job: Job, program: Path, environment: dict[str, str], parent: int, console: int) -> None:
        code = 1
        try:
            os.setsid()  # Ctrl-C goes to the sweep, which ends its runs itself
            for number in system.STOPS:
                signal.signal(number, signal.SIG_DFL)
            system.end_with(parent)
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
        system.send(number, self.pid)


class Spawned:
    """A run as a process of its own."""

    def __init__(self, job: Job, program: Path, environment: dict[str, str]):
        with claimed(job) as (lock, console):
            self.process = subprocess.Popen(
                [sys.executable, *started(program), *job.arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                **system.apart(lock),
            )

    def poll(self) -> int | None:
        return self.process.poll()

    def signal(self, number: int) -> None:
        system.send(number, self.process.pid)


class Local:
    """One run a slot; a slot is a GPU or a share of the CPU's cores."""

    def __init__(self, program: Path, slots: Sequence[str], threads: int, fork: bool):
        self.program, self.slots, self.threads = program, list(slots), threads
        self.kind: type[Forked | Spawned] = Forked if fork else Spawned

    def start(self, job: Job, slot: str) -> Run:
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return self.kind(job, self.program, threads | ALONE | {"CUDA_VISIBLE_DEVICES": slot})
