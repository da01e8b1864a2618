"""What is installed: one command with its verbs, and wheels that need nothing of the checkout they were built from."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cilmp import yamls
from cilmp.__main__ import VERBS, main
from cilmp.errors import UserError
from cilmp.sweep.jobs import started

HOME = Path(__file__).parents[1]
SHIPPED = {"cilmp": "cilmp", "trainers": "cilmp/trainers", "datasets": "cilmp/datasets", "configs": "cilmp/configs"}
LINKS = ("cilmp/trainers", "cilmp/datasets")
PUBLISHED = "docs/published.csv"  # of docs/ what programs read


def cilmp(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cilmp", *arguments])
    return main()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_verb_hands_its_arguments_to_a_program(verb, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        cilmp(monkeypatch, verb, "--help")
    assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: cilmp {verb} ")


def test_help_names_every_verb_and_a_slip_the_nearest(monkeypatch, capsys):
    assert cilmp(monkeypatch) == 0
    listed = capsys.readouterr().out
    assert all(f"  {verb} " in listed for verb in VERBS)
    with pytest.raises(UserError, match="Unknown verb 'result'. Did you mean results"):
        cilmp(monkeypatch, "result")


@pytest.mark.parametrize("arguments", [["--help"], ["results", "nowhere"], ["results", "--help"]])
def test_what_needs_no_torch_imports_none(arguments):
    code = (
        "import atexit, sys, cilmp.__main__ as m; atexit.register(lambda: print('torch' in sys.modules)); m.program()"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=HOME)
    assert run.stdout.endswith("False\n"), run.stdout + run.stderr


def test_a_config_is_a_path_that_exists_else_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = HOME / "configs" / "datasets" / "busi.yaml"
    for given in ("busi", "configs/datasets/busi.yaml"):
        assert yamls.find(given, "datasets", "data set").samefile(shipped)
    Path("busi").write_text("")
    assert yamls.find("busi", "datasets", "data set") == Path("busi")
    with pytest.raises(UserError, match="No config of CoOp 'tinny' in .*Did you mean tiny"):
        yamls.find("tinny", "trainers/CoOp", "config of CoOp")
    for given in ("busi.yaml", "mine/busi.yaml", "configs/datasets/bus.yaml"):
        with pytest.raises(UserError, match=f"No config file at {given}: .*Did you mean busi"):
            yamls.find(given, "datasets", "data set")


def test_a_run_of_a_sweep_starts_where_no_room_hides_a_library():
    """Python puts a script's folder first: there `import clip` would be cilmp/clip."""
    assert started(yamls.PACKAGE / "train.py") == ["-m", "cilmp.train"]
    assert started(Path("mine/train.py")) == [str(Path("mine/train.py"))]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both, by way of a source distribution made where Git makes no links, as on Windows."""
    place = tmp_path_factory.mktemp("wheels")
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("cilmp", "trainers", "datasets", "configs", "dassl-compat"):
        shutil.copytree(HOME / name, place / name, symlinks=True, ignore=junk)
    (place / "docs").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", PUBLISHED):
        shutil.copy(HOME / name, place / name)
    for link in LINKS:
        target = os.readlink(HOME / link) if (HOME / link).is_symlink() else "no link"
        (place / link).unlink()
        (place / link).write_text(target)
    code = "from setuptools import build_meta; print(build_meta.build_sdist('.'))"
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True, capture_output=True)
    [source] = place.glob("*.tar.gz")
    pip("wheel", source, "./dassl-compat", "--no-build-isolation", "-w", ".", cwd=place)
    return sorted(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """Runs a command of an environment with both wheels, from an empty folder. Of this one it sees the libraries."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    scripts = place / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip("--python", scripts / "python", "install", *wheels)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([scripts / "python", "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    Path(own, "libraries.pth").write_text("\n".join(libraries))  # paths alone: editable installs there stay unseen
    (place / "empty").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | dict(CUDA_VISIBLE_DEVICES="")

    def run(command, *arguments):
        line = [scripts / command, *map(str, arguments)]
        done = subprocess.run(line, cwd=place / "empty", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.place = place
    return run


def pip(*arguments, cwd=None):
    line = [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--no-index"]
    run = subprocess.run([*line, "--disable-pip-version-check"], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_checkout(wheels):
    expected = {f"cilmp/{PUBLISHED}"}
    for folder, there in SHIPPED.items():
        for path in (HOME / folder).rglob("*"):
            inside = path.relative_to(HOME / folder).as_posix()
            linked = f"{folder}/{inside}/".startswith(tuple(f"{link}/" for link in LINKS))
            if path.is_file() and path.suffix != ".pyc" and not linked:
                expected.add(f"{there}/{inside}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


@pytest.mark.slow
def test_nothing_of_the_checkout_is_imported(installed):
    code = (
        "from importlib.util import find_spec; print(find_spec('cilmp').origin, find_spec('dassl').origin, sep='\\n')"
    )
    files = installed("python", "-c", code).splitlines()
    assert [Path(file).is_relative_to(installed.place / "env") for file in files] == [True, True], files


@pytest.mark.slow
def test_help_and_a_backbone(installed):
    assert "sweep" in installed("cilmp", "--help")
    assert "vision transformer, patch 16, width 128" in installed("cilmp", "clip", "show", "tiny")


@pytest.mark.slow
def test_from_a_sweep_to_its_table(installed):
    quick = ("--trainers", "CoOp", "--seeds", 1, "--shots", 1, "--", "OPTIM.MAX_EPOCH", 1)
    swept = installed("cilmp", "sweep", "base2new", *quick)
    table = installed("cilmp", "results", "output", "--table", "base2new")
    assert "PHANTOMS" in table and "CoOp" in table and table in swept
    assert installed("cilmp", "results", "output", "--table", "base2new", "--beside") == table


@pytest.mark.slow
def test_coop_s_command_line(installed):
    line = ["--trainer", "CoOp", "--seed", 1, "--dataset-config-file", "configs/datasets/phantoms.yaml"]
    line += ["--config-file", "tiny", "--output-dir", "one", "DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1]
    assert f"Result: {Path('one', 'result.json')}" in installed("cilmp", "train", *line)
