"""What a sweep is asked for is checked before anything starts, from flags and from the environment alike."""

import subprocess
import sys

import pytest

from cilmp.errors import UserError
from cilmp.sweep import gpus
from cilmp.sweep.__main__ import parse_args


@pytest.mark.parametrize("how", ["flag", "environment"])
@pytest.mark.parametrize(
    "name, value, said",
    [
        ("jobs", "-1", "1 or more"),
        ("jobs", "0", "1 or more"),
        ("jobs", "many", "a whole number"),
        ("jobs", "1.5", "a whole number"),
        ("shots", "-5", "1 or more, or -1 for all"),
        ("shots", "0", "1 or more, or -1 for all"),
        ("shots", "16 16", "shots has 16 2 times"),
        ("seeds", "-1", "0 to 4294967295"),
        ("seeds", "4294967296", "0 to 4294967295"),
        ("seeds", "1 2 1", "seeds has 1 2 times"),
        ("trainers", "CoOp CILMP CoOp", "trainers has CoOp 2 times"),
        ("launcher", "slrum", "one of local, slurm, ray"),
        ("sbatch", "--gres 'gpu:1", "no closing quotation"),
        ("data", "nowhere", "No folder nowhere: check --data"),
        ("gpus", "97", "there are 0, 1"),
        ("gpus", "0 GPU-9", "cannot be 'GPU-9'"),
    ],
)
def test_options_of_no_sense_are_one_line(place, monkeypatch, name, value, said, how):
    monkeypatch.setattr(gpus, "listed", lambda: ["0", "1", "GPU-1a2b", "GPU-3c4d"])
    argv = ["few_shot", "busi"]
    if how == "environment":
        monkeypatch.setenv(name.upper(), value)
    else:
        many = name in ("shots", "seeds", "trainers")
        argv += [f"--{name}", *value.split()] if many else [f"--{name}={value}"]
    with pytest.raises(UserError, match=said):
        args = parse_args(argv)
        gpus.check(args.gpus.split())


def test_data_sets_that_are_named_twice(place):
    with pytest.raises(UserError, match="datasets has busi 2 times"):
        parse_args(["few_shot", "busi", "BUSI"])


def test_a_flag_outranks_the_environment_and_an_empty_variable_is_none(place, monkeypatch):
    for name, value in {"SEEDS": "7,8", "JOBS": "", "SHOTS": " ", "LAUNCHER": "ray", "GPUS": ""}.items():
        monkeypatch.setenv(name, value)
    args = parse_args(["few_shot", "--launcher", "slurm"])
    assert args.seeds == [7, 8] and args.jobs is None and args.shots is None
    assert args.launcher == "slurm" and args.gpus == ""


@pytest.mark.slow
@pytest.mark.parametrize("name, value", [("JOBS", "-1"), ("LAUNCHER", "slrum"), ("SHOTS", "-5"), ("GPUS", "97")])
def test_the_program_ends_before_anything_starts(place, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    line = [sys.executable, "-m", "cilmp.sweep", "few_shot", "--program", "program.py", "--trainers", "CoOp"]
    run = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1
    assert value in run.stderr and not (place / "output").exists()


SMI = """GPU 0: NVIDIA A100 (UUID: GPU-1a2b)
  MIG 1g.5gb      Device  0: (UUID: MIG-77)
GPU 1: NVIDIA A100 (UUID: GPU-3c4d)
"""


def test_gpus_go_by_number_uuid_and_the_beginning_of_one(monkeypatch):
    monkeypatch.setattr(gpus.shutil, "which", lambda name: name)
    monkeypatch.setattr(gpus, "output", lambda *command, env=None: SMI)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible() == ["0", "1"]
    gpus.check(["0", "1", "GPU-1a2b", "GPU-3c", "MIG-77"])
    with pytest.raises(UserError, match="cannot be '2'"):
        gpus.check(["0", "2"])


@pytest.mark.parametrize("said, expected", [("0,1", ["0", "1"]), ("-1", []), ("NoDevFiles", []), ("1,-1,0", ["1"])])
def test_visible_devices_end_at_the_first_that_is_none(monkeypatch, said, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert gpus.visible() == expected


def test_without_nvidia_smi_pytorch_counts(monkeypatch):
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpus, "output", lambda *command, env=None: "2\n")
    gpus.check(["0", "1"])
    with pytest.raises(UserError, match="there are 0, 1"):
        gpus.check(["2"])
    monkeypatch.setattr(gpus, "output", lambda *command, env=None: "")
    gpus.check([])
    with pytest.raises(UserError, match="there is none"):
        gpus.check(["0"])
