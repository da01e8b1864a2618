"""What systems lack, each taken away: the house goes round it."""

import builtins
import os
import signal
import subprocess
import sys
import time

import pytest

from cilmp import devices, system


@pytest.fixture
def without(monkeypatch):
    """Modules that cannot be imported any more, as on Windows."""

    def take(*names):
        real = builtins.__import__

        def refuse(name, *args, **kwargs):
            if name in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", refuse)

    return take


def test_no_resource_no_peak(without):
    assert system.peak_memory() > 2**20
    without("resource")
    assert system.peak_memory() is None
    assert devices.peak_memory_mb(devices.choose("cpu")) is None


def test_no_fcntl_no_lock(without, tmp_path):
    without("fcntl")
    with open(tmp_path / "lock", "a") as one, open(tmp_path / "lock", "a") as two:
        assert "no locks" in system.lock(one) and "no locks" in system.lock(two)


def test_a_lock_has_one_owner(tmp_path):
    pytest.importorskip("fcntl")
    with open(tmp_path / "lock", "a") as one, open(tmp_path / "lock", "a") as two:
        assert system.lock(one) == ""
        with pytest.raises(BlockingIOError):
            system.lock(two)


def test_no_affinity_all_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert system.cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.cores() == 1


@pytest.mark.parametrize("gone", ["fork", "platform", "proc"])
def test_no_fork(monkeypatch, gone):
    if gone == "fork":
        monkeypatch.delattr(os, "fork", raising=False)
    elif gone == "platform":
        monkeypatch.setattr(sys, "platform", "win32")
    else:
        monkeypatch.setattr(system.Path, "is_dir", lambda self: False)
    assert not system.forkable()


@pytest.mark.parametrize("groups", [True, False])
def test_a_run_is_ended_with_and_without_groups(monkeypatch, tmp_path, groups):
    if not groups:
        monkeypatch.delattr(os, "killpg", raising=False)
    with open(tmp_path / "lock", "a") as file:
        options = system.apart(file)
        assert bool(options) == hasattr(os, "killpg")
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **options)
    system.send(signal.SIGTERM, process.pid)
    assert process.wait(timeout=10) != 0
    system.send(system.KILL, process.pid)  # gone already: nothing happens


WINDOWS = """
import os, runpy, signal, subprocess, sys
for module in ("resource", "fcntl"):
    sys.modules[module] = None
for name in ("fork", "setsid", "killpg", "getppid", "sched_getaffinity"):
    delattr(os, name) if hasattr(os, name) else None
for name in ("SIGKILL", "SIGHUP"):
    delattr(signal, name) if hasattr(signal, name) else None
real = subprocess.Popen.__init__
def init(self, *args, **kwargs):
    assert not kwargs.get("pass_fds") and kwargs.get("preexec_fn") is None, "not on Windows"
    real(self, *args, **kwargs)
subprocess.Popen.__init__ = init
sys.argv = ["sweep", *sys.argv[1:]]
runpy.run_module("cilmp.sweep", run_name="__main__")
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_sweep_with_all_of_it_taken_away(tmp_path, stopped):
    (tmp_path / "configs/trainers/CoOp").mkdir(parents=True)
    (tmp_path / "configs/trainers/CoOp/tiny.yaml").write_text("")
    (tmp_path / "configs/datasets").mkdir()
    (tmp_path / "configs/datasets/phantoms.yaml").write_text("DATASET:\n  NAME: PHANTOMS\n")
    program = os.path.join(os.path.dirname(__file__), "sweep", "program.py")
    (tmp_path / "program.py").write_text(open(program).read())
    line = [sys.executable, "-c", WINDOWS, "few_shot", "--program", "program.py", "--trainers", "CoOp", "--shots", "1"]
    process = subprocess.Popen(
        [*line, "--gpus", "", "--", "SLEEP", "30" if stopped else "0.1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if stopped:
        until = time.time() + 20
        while not list(tmp_path.rglob("prompt_learner/model")):
            assert time.time() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err and err.count("cannot be locked") == 1, err
    assert process.returncode == (130 if stopped else 0), err
    assert stopped or "CoOp" in out
