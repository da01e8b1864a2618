"""Files appear whole or not at all, and no program ends in a traceback because a file of its own cannot be written."""

import builtins
import errno
import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from cilmp import files, train
from cilmp.errors import UserError, exit_on_user_error
from cilmp.sweep import __main__ as sweep
from cilmp.sweep import cluster

pytestmark = pytest.mark.slow  # whole programs

HOME = Path(__file__).parents[1]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = files.write_text(tmp_path / "deep" / "note", "old\n")
    with pytest.raises(KeyError), files.writing(path) as file:
        file.write("half")
        raise KeyError
    assert path.read_bytes() == b"old\n" and list(path.parent.iterdir()) == [path]
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch, number, call):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    files.write_text(tmp_path / "note", "old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError, match=rf"Cannot write .*note \({os.strerror(number)}\): check --out\."):
        files.write_text(tmp_path / "note", "new", mend="check --out")
    assert (tmp_path / "note").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_place_is_needed_before_the_work(tmp_path):
    files.need_place(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to .*file.*: check --output"):
        files.need_place(tmp_path / "file" / "b", "check --output")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def refuse(monkeypatch):
    """Make a folder (mkdir) or open files to write (open) below a place fail, where their name has `part`."""

    def start(place: Path, call: str, part: str, number: int) -> None:
        def meant(path) -> bool:
            return isinstance(path, (str, os.PathLike)) and str(place) in os.path.abspath(path) and part in str(path)

        def failing(real, writes):
            def instead(path, *args, **kwargs):
                if meant(path) and writes(*args, **kwargs):
                    raise OSError(number, os.strerror(number), os.fspath(path))
                return real(path, *args, **kwargs)

            return instead

        if call == "mkdir":
            monkeypatch.setattr(os, "mkdir", failing(os.mkdir, lambda *args, **kwargs: True))
        else:
            opens = failing(open, lambda mode="r", *args, **kwargs: mode[0] in "wax")
            monkeypatch.setattr(builtins, "open", opens)
            monkeypatch.setattr(io, "open", opens)  # pathlib's

    return start


def arguments_of_train(place, data):
    return [
        *("--root", str(data), "--seed", "1", "--trainer", "CoOp", "--output-dir", str(place / "out")),
        *("--dataset-config-file", str(HOME / "configs/datasets/phantoms.yaml")),
        *("--config-file", str(HOME / "configs/trainers/CoOp/tiny.yaml"), "VERBOSE", "False"),
        *("DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "TEST.SAVE_PREDICTIONS", "True"),
    ]


def arguments_of_sweep(place, data):
    shutil.copy(HOME / "tests/sweep/program.py", place / "program.py")
    options = ["--trainers", "CoOp", "--shots", "1", "--seeds", "1", "--gpus", "", "--no-fork"]
    return ["few_shot", "--program", str(place / "program.py"), "--output", str(place / "out"), *options]


def arguments_of_slurm(place, data):
    return [*arguments_of_sweep(place, data), "--launcher", "slurm"]


TRAIN = (train.guarded, arguments_of_train)
SWEEP = (sweep.main, arguments_of_sweep)
SLURM = (sweep.main, arguments_of_slurm)


@pytest.mark.parametrize(
    "program, call, part",
    [
        (TRAIN, "mkdir", "out"),
        (TRAIN, "mkdir", "prompt_learner"),
        (TRAIN, "open", "log.txt"),
        (TRAIN, "open", "checkpoint"),
        (TRAIN, "open", "predictions.npz"),
        (TRAIN, "open", "result.json"),
        (SWEEP, "mkdir", "out"),
        (SWEEP, "mkdir", "seed1"),
        (SWEEP, "open", ".sweep"),
        (SWEEP, "open", "console.txt"),
        (SLURM, "mkdir", "slurm"),
        (SLURM, "open", "wave0.json"),
        (SLURM, "open", "wave0.sh"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1].__name__.split("_")[-1],
)
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC], ids=["read-only", "full"])
def test_no_program_ends_in_a_traceback(tmp_path, data, refuse, monkeypatch, capsys, program, call, part, number):
    main, arguments = program
    monkeypatch.setattr(sys, "argv", ["program", *arguments(tmp_path, data)])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # the run's logger takes its place
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    refuse(tmp_path, call, part, number)
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(main)
    [line] = [line for line in capsys.readouterr().err.splitlines() if os.strerror(number) in line]
    assert part in line and "--output" in line
    assert stop.value.code == 2 or main is sweep.main and line.startswith("FAILED CoOp") and stop.value.code == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("argv", [[], ["list.json"], ["list.json", ""], ["nowhere.json", "0"]])
def test_the_program_of_a_batch_script_started_by_hand_is_one_line(monkeypatch, capsys, argv):
    monkeypatch.setattr(sys, "argv", ["cluster", *argv])
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(cluster.main)
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "said, mend",
    [
        ("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0", "disk of --output-dir"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out "
         "of shared memory.", "--shm-size"),
    ],
)  # fmt: skip
def test_what_pytorch_says_of_the_machine_has_a_mend(monkeypatch, capsys, said, mend):
    def fail():
        raise RuntimeError(f"{said}\nand more")

    monkeypatch.setattr(train, "main", fail)
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(train.guarded)
    assert stop.value.code == 2 and mend in capsys.readouterr().err
    monkeypatch.setattr(train, "main", lambda: (_ for _ in ()).throw(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        train.guarded()
