"""What some systems lack, and what is done there instead: locks, forks, process groups, signals, the peak of memory.

Linux has all of it, macOS most and Windows little; a network disk may refuse to lock a file.  The rest of the house
asks here, not which system it runs on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once by either


def cores() -> int:
    """Those this process may use; a container or a cluster's job has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most this process has held, in bytes; None where nothing tells (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 2**10)  # macOS counts in bytes, others in KiB


def lock(file: IO[Any]) -> str:
    """Own an open file as long as this process or a child that inherits it has it open.

    '', or why files cannot be locked here (no such module, NFS or Lustre without locks): then nobody owns it.
    BlockingIOError: another process does.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except ImportError:
        return "this system has no locks that a child inherits"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def forkable() -> bool:
    """Linux, and this process has one thread: what a forked PyTorch needs."""
    threads = Path("/proc/self/task")
    return sys.platform == "linux" and hasattr(os, "fork") and threads.is_dir() and len(list(threads.iterdir())) == 1


def apart(file: IO[Any]) -> dict[str, Any]:
    """Options of subprocess.Popen: a process group of its own, which inherits `file` and ends with this process."""
    if not hasattr(os, "killpg"):
        return {}
    return dict(pass_fds=[file.fileno()], start_new_session=True, preexec_fn=partial(end_with, os.getpid()))


def end_with(parent: int) -> None:
    """Linux: kill this process when its parent dies, or a killed sweep would leave its runs behind on the GPU."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, KILL)
        if os.getppid() != parent:  # dead before that
            os._exit(1)


def send(number: int, leader: int) -> None:
    """A signal to a process and its group, if they are still there; without groups the process alone, which ends."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: no permission to signal the dead
        if hasattr(os, "killpg"):
            os.killpg(leader, number)
        else:
            os.kill(leader, signal.SIGTERM)
