"""The loop of a sweep: which run next, what became of it, and how long the rest takes."""

from __future__ import annotations

import datetime
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from types import FrameType

from cilmp import system
from cilmp.errors import UserError, brief
from cilmp.results import records
from cilmp.sweep.jobs import Job
from cilmp.sweep.launchers import CONSOLE, Busy, Launcher, Run

ENOUGH = 10.0  # seconds a run gets to end by itself after SIGTERM


class Schedule:
    """The loop: longest ready job first, a job a slot; a failed one takes along only those that wait for it."""

    def __init__(self, jobs: Sequence[Job], todo: Sequence[Job], launcher: Launcher):
        self.launcher, self.todo = launcher, list(todo)
        self.running: dict[Run, tuple[Job, str, float]] = {}  # (job, slot, start)
        self.free = list(launcher.slots)
        self.finished: list[Job] = []
        self.failed: dict[Job, str] = {}
        self.total, self.begun, self.stop = len(self.todo), time.time(), 0
        self.waiting = False  # for runs of another sweep alone
        self.seconds: dict[tuple[object, ...], list[float]] = {}  # by kind
        for job in set(jobs) - set(todo):
            self.learn(job)

    def learn(self, job: Job, spent: float | None = None) -> None:
        if spent is None:
            spent = records.read(job.folder).get("seconds", {}).get("total")
        if spent is not None:
            self.seconds.setdefault(job.kind, []).append(spent)

    def expected(self, job: Job) -> float:
        """Seconds: of its kind; unknown kinds are tried early, training and many shots first."""
        if job.kind in self.seconds:
            return statistics.fmean(self.seconds[job.kind])
        shots = job.fields.get("shots", 1)
        return 1e9 * (job.after is None) + (1e6 if shots < 0 else shots)

    def run(self) -> int:
        """-> 0, or the number of the signal that stopped it."""
        before = {number: signal.signal(number, self.on_signal) for number in system.STOPS}
        try:
            while (self.todo or self.running) and not self.stop:
                moved = self.reap()
                while self.free and self.launch():
                    moved = True
                self.show(moved)
                self.say_what_it_waits_for()
                time.sleep(0.05)
            if self.stop:
                self.end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if sys.stderr.isatty():
                print(file=sys.stderr)
        return self.stop

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop = number

    def launch(self) -> bool:
        pending = set(self.todo) | {job for job, *_ in self.running.values()}
        ready = [job for job in self.todo if job.after not in pending]
        for job in sorted(ready, key=self.expected, reverse=True):
            if job.after in self.failed:
                self.todo.remove(job)
                self.failed[job] = f"not started: it waits for {job.after.name}"
                return True
            try:
                slot = self.free[-1]
                run = self.launcher.start(job, slot)
            except Busy:
                if self.done_elsewhere(job):
                    return True
                continue  # under way there: look again later
            except (UserError, OSError) as error:
                self.todo.remove(job)
                self.failed[job] = f"not started: {error}"
                return True
            self.free.pop()
            self.todo.remove(job)
            self.running[run] = job, slot, time.time()
            return True
        return False

    def done_elsewhere(self, job: Job) -> bool:
        """Another sweep has finished the job, maybe with other options than these."""
        state, why = job.state()
        if state == "done":
            self.finished.append(job)
        elif state == "differs":
            self.failed[job] = f"not started: {job.folder} has meanwhile been run with other options ({why})"
        else:
            return False
        self.todo.remove(job)
        return True

    def say_what_it_waits_for(self) -> None:
        if self.todo and not self.running and not self.waiting:
            names = brief([job.name for job in self.todo], 3)
            print(
                f"note: what is left runs elsewhere or waits for it ({names}); this ends when that does",
                file=sys.stderr,
            )
        self.waiting = bool(self.todo) and not self.running

    def reap(self) -> bool:
        ended = [(run, code) for run in list(self.running) if (code := run.poll()) is not None]
        for run, code in ended:
            job, slot, start = self.running.pop(run)
            self.free.append(slot)
            if code:
                run.signal(system.KILL)  # what it leaves behind in its group
            state, why = job.state()
            if code == 0 and state == "done":
                self.finished.append(job)
                self.learn(job, time.time() - start)
            elif code == 0 and state == "differs":
                self.failed[job] = f"its record is not of what was asked: {why}"
            else:
                self.failed[job] = tail(job, code)
        return bool(ended)

    def end(self) -> None:
        for number in (signal.SIGTERM, system.KILL):
            for run in self.running:
                run.signal(number)
            patience = time.time() + ENOUGH
            while self.running and time.time() < patience:
                self.reap_silently()
                time.sleep(0.05)

    def reap_silently(self) -> None:
        for run in [run for run in self.running if run.poll() is not None]:
            self.running.pop(run)

    def eta(self) -> str:
        known = [s for values in self.seconds.values() for s in values]
        if not known:
            return "?"
        mean, now = statistics.fmean(known), time.time()

        def guess(job: Job) -> float:
            return self.expected(job) if job.kind in self.seconds else mean

        left = sum(guess(job) for job in self.todo)
        left += sum(max(0.0, guess(job) - (now - start)) for job, _, start in self.running.values())
        return clock(left / len(self.launcher.slots))

    def show(self, moved: bool) -> None:
        """One line: rewritten on a terminal, else printed when something ended or started."""
        live = sys.stderr.isatty()
        if not (moved or live and time.time() % 1 < 0.06):
            return
        done = len(self.finished) + len(self.failed)
        spent = clock(time.time() - self.begun)
        names = ", ".join(job.name for job, *_ in self.running.values())
        line = f"[{done}/{self.total}] {len(self.failed)} failed, {spent} spent, {self.eta()} to go | {names}"
        if live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def tail(job: Job, code: int, lines: int = 8) -> str:
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}" if code else "ended without a record"
    path = job.folder / CONSOLE
    said = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    last = [line.split("\r")[-1] for line in said if line.strip()][-lines:]
    return "\n".join([f"{how}; {path}:", *(f"    {line}" for line in last)])
