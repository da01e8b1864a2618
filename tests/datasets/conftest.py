from itertools import count
from pathlib import Path

import downloads
import pytest
from downloads import paint

from cilmp.datasets.__main__ import main
from cilmp.errors import exit_on_user_error


@pytest.fixture(autouse=True)
def pictures_of_its_own(monkeypatch):
    """A test sees the same pictures whatever ran before it."""
    monkeypatch.setattr(downloads, "_seed", count())


@pytest.fixture
def run(monkeypatch, capsys):
    """`python -m cilmp.datasets WORDS`: what it prints, or, with fails=True, the one line on stderr."""

    def program(*words: str, fails: bool = False) -> str:
        monkeypatch.setattr("sys.argv", ["cilmp.datasets", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            exit_on_user_error(main)
        out, err = capsys.readouterr()
        assert bool(end.value.code) == fails, err
        if fails:
            assert len(err.strip().splitlines()) == 1, err
        return err if fails else out

    return program


def two_classes(folder: Path, n: int = 12) -> Path:
    for name in ("ill", "well"):
        for i in range(n):
            paint(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def prepare(tmp_path, run):
    """`prepare NAME` of the folder scans: what it prints."""
    two_classes(tmp_path / "scans")

    def program(*words: str, name: str = "FOLDER", source: str = "scans", fails: bool = False) -> str:
        where = ("--source", str(tmp_path / source), "--root", str(tmp_path / "root"))
        out = run("prepare", name, *where, *words, fails=fails)
        if fails:
            assert not (tmp_path / "root/split.json").exists()
        return out

    return program
