import shutil
from pathlib import Path

import pytest

OPTIONS = ("TRAINERS", "SEEDS", "SHOTS", "CFG", "DATA", "OUTPUT", "GPUS", "JOBS", "LAUNCHER", "SBATCH")


def checkout(folder):
    """A checkout in small: the program and its configs."""
    shutil.copy(Path(__file__).parent / "program.py", folder / "program.py")
    for trainer in ("ZeroshotCLIP", "CoOp", "CILMP", "LinearProbe"):
        (folder / "configs" / "trainers" / trainer).mkdir(parents=True)
        (folder / "configs" / "trainers" / trainer / "tiny.yaml").write_text("")
    (folder / "configs" / "datasets").mkdir()
    for name in ("phantoms", "busi", "kvasir"):
        (folder / "configs" / "datasets" / f"{name}.yaml").write_text(f"DATASET:\n  NAME: {name.upper()}\n")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: a small checkout, and nothing in the environment."""
    for name in OPTIONS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    return checkout(tmp_path)


@pytest.fixture
def place_with_blanks(tmp_path, place, monkeypatch):
    (tmp_path / "my check%out").mkdir()
    monkeypatch.chdir(tmp_path / "my check%out")
    return checkout(tmp_path / "my check%out")
