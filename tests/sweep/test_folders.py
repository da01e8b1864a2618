"""What a sweep finds in a run's folder: another's lock, a killed run, one of other options, links, places of no use."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from started import SBATCH, command, processes_in, sweep

from cilmp.errors import UserError
from cilmp.results import records
from cilmp.sweep import launchers
from cilmp.sweep.jobs import STARTED, Job
from cilmp.sweep.launchers import Busy, claimed

fcntl = pytest.importorskip("fcntl")


pytestmark = pytest.mark.slow  # whole runs

FIELDS = dict(trainer="CoOp", dataset="PHANTOMS", config="tiny", classes="all", shots=1, seed=1)


def job(folder, **options):
    return Job(folder, ["--lr", str(options)], FIELDS, options=options)


@pytest.mark.parametrize(
    "before, now, kept",
    [
        ({"OPTIM.LR": 0.1, "TRAIN.CHECKPOINT_FREQ": 1}, {"OPTIM.LR": 0.1, "TRAIN.CHECKPOINT_FREQ": 1}, True),
        ({"TRAIN.CHECKPOINT_FREQ": 1}, {"TRAIN.CHECKPOINT_FREQ": 1, "OUTPUT_DIR": "x", "VERBOSE": False}, True),
        ({"OPTIM.LR": 0.1, "TRAIN.CHECKPOINT_FREQ": 1}, {"OPTIM.LR": 0.2, "TRAIN.CHECKPOINT_FREQ": 1}, False),
        ({"TRAIN.CHECKPOINT_FREQ": 1}, {"OPTIM.LR": 0.2, "TRAIN.CHECKPOINT_FREQ": 1}, False),
        ({"OPTIM.LR": 0.1}, {"OPTIM.LR": 0.1}, False),
    ],
)
def test_a_killed_run_goes_on_only_with_equal_options(tmp_path, before, now, kept):
    with claimed(job(tmp_path, **before)):
        (tmp_path / "model").write_text("half")
    with claimed(job(tmp_path, **now)):
        assert (tmp_path / "model").exists() == kept


def test_checkpoints_of_a_run_by_hand_are_not_the_sweep_s_to_clear(tmp_path):
    (tmp_path / "model").write_text("whole")
    with claimed(job(tmp_path)):
        assert (tmp_path / "model").exists()


def test_links_go_and_what_they_lead_to_stays(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with claimed(job(folder)):
        elsewhere.mkdir()
        (elsewhere / "precious").write_text("")
        (folder / "folder").symlink_to(elsewhere)
        (folder / "file").symlink_to(elsewhere / "precious")
        (folder / "nowhere").symlink_to(tmp_path / "nowhere")
        (folder / "deep").mkdir()
        (folder / "deep" / "folder").symlink_to(elsewhere)
    with claimed(job(folder)):
        assert sorted(p.name for p in folder.iterdir()) == [STARTED, launchers.CONSOLE]
    assert (elsewhere / "precious").exists()


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    options = {"TRAIN.CHECKPOINT_FREQ": 1}
    with claimed(job(tmp_path, **options)):
        (tmp_path / "deep").mkdir()
        for name in (".result.json.17.tmp", "deep/.model.99.tmp", "model", ".mine.tmp"):
            (tmp_path / name).write_text("")
    with claimed(job(tmp_path, **options)):
        left = {p.name for p in tmp_path.rglob("*") if p.is_file()} - {STARTED, launchers.CONSOLE}
    assert left == {"model", ".mine.tmp"}


def test_a_lock_of_another_is_busy(tmp_path):
    with claimed(job(tmp_path)):
        (tmp_path / "model").write_text("under way")
        with pytest.raises(Busy), claimed(job(tmp_path)):
            pass
        assert (tmp_path / "model").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EWOULDBLOCK])
def test_only_would_block_means_that_somebody_has_it(tmp_path, monkeypatch, capsys, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    launchers.say_once.cache_clear()
    if number == errno.EWOULDBLOCK:
        with pytest.raises(Busy), claimed(job(tmp_path)):
            pass
        return
    for name in ("a", "b"):
        with claimed(job(tmp_path / name)):
            pass
    assert capsys.readouterr().err.count(f"cannot be locked here ({os.strerror(number)})") == 1


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, call):
    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(*{"mkdir": (os, "mkdir"), "open": ("builtins.open",)}[call], refuse)
    with pytest.raises(UserError, match="Read-only file system.*check --output"), claimed(job(tmp_path / "run")):
        pass


def test_a_folder_of_no_use_fails_its_run_alone(place):
    folder = place / "out/phantoms/CoOp/tiny_1shots"
    folder.mkdir(parents=True)
    (folder / "seed1").write_text("a file")
    run = sweep("few_shot", "--shots", 1, "--seeds", 1, 2, trainers=["CoOp"])
    assert run.returncode == 1 and "FAILED CoOp PHANTOMS all 1 shots seed 1: not started: Cannot write" in run.stderr
    assert (folder / "seed2/result.json").exists() and "Traceback" not in run.stderr


def test_an_output_that_is_a_file_is_one_line(place):
    (place / "out").write_text("")
    run = sweep("few_shot", trainers=["CoOp"])
    assert run.returncode == 2 and "Cannot write to out (" in run.stderr and "--output" in run.stderr


def test_finished_runs_of_other_options_are_refused_before_anything_starts(place):
    assert sweep("few_shot", "--shots", 1, "--seeds", 1, "--", "OPTIM.LR", "0.1", trainers=["CoOp"]).returncode == 0
    run = sweep("few_shot", "--shots", 1, "--seeds", 1, 2, "--", "OPTIM.LR", "0.2", trainers=["CoOp"])
    assert run.returncode == 2 and "OPTIM.LR 0.1 there, 0.2 asked" in run.stderr and "--output" in run.stderr
    assert len(list(place.rglob("seed2"))) == 0
    told = sweep("few_shot", "--shots", 1, "--seeds", 1, "--dry-run", "--", "OPTIM.LR", "0.2", trainers=["CoOp"])
    assert told.returncode == 0 and "# differs (OPTIM.LR 0.1 there, 0.2 asked)" in told.stdout


def test_two_sweeps_at_once_of_other_options_both_end(place):
    lines = [[*command("few_shot", "--shots", 1, trainers=["CoOp"]), "--", "SLEEP", "0.4", "OPTIM.LR", rate]
             for rate in ("0.1", "0.2")]  # fmt: skip
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for line in lines]
    said = "".join(process.communicate(timeout=60)[1] for process in both)
    assert all(process.returncode in (0, 1, 2) for process in both) and "Traceback" not in said
    assert "run with other options (OPTIM.LR 0." in said
    for path in place.rglob("result.json"):
        assert records.read(path)["options"]["OPTIM.LR"] in path.with_name(STARTED).read_text()


def test_a_sweep_that_only_waits_says_so(place):
    first = subprocess.Popen([*command("few_shot", "--shots", 1, "--seeds", 1, trainers=["CoOp"]), "--", "SLEEP", "3"])
    while not list(place.rglob(launchers.CONSOLE)):
        assert first.poll() is None
    second = sweep("few_shot", "--shots", 1, "--seeds", 1, trainers=["CoOp"])
    assert first.wait(timeout=20) == 0 and second.returncode == 0
    assert second.stderr.count("note: what is left runs elsewhere") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("fork", [[], ["--no-fork"]])
def test_a_killed_run_takes_along_what_it_started(place, fork):
    """Such as workers that load images."""
    program = (
        "import os, time\nif __name__ == '__main__':\n    os.kill(os.getpid(), 9) if os.fork() else time.sleep(60)\n"
    )
    (place / "program.py").write_text(program)
    run = sweep("few_shot", "--shots", 1, "--seeds", 1, *fork, trainers=["CoOp"])
    assert run.returncode == 1 and "ended by signal 9" in run.stderr
    until = time.time() + 5
    while processes_in(place):
        assert time.time() < until
        time.sleep(0.05)


def test_slurm_where_every_path_has_blanks(place_with_blanks, monkeypatch):
    """The checkout, the interpreter, the output; and a % , which means something to sbatch."""
    bin = place_with_blanks / "my bin"
    bin.mkdir()
    (bin / "python $3").symlink_to(sys.executable)
    (bin / "sbatch").write_text(SBATCH.format(python=sys.executable))
    (bin / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # the link knows no environment
    line = command("few_shot", "--shots", 1, "--seeds", 1, "--launcher", "slurm", output="my out", trainers=["CoOp"])
    run = subprocess.run([str(bin / "python $3"), *line[1:]], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    record = place_with_blanks / "my out/phantoms/CoOp/tiny_1shots/seed1/result.json"
    assert record.exists(), [p.read_text() for p in place_with_blanks.rglob("wave0.sh")]
    assert f"--output={str(place_with_blanks).replace('%', '%%')}/my out/slurm/" in Path("calls").read_text()


@pytest.mark.parametrize("fork", [[], ["--no-fork"]])
def test_a_run_is_one_process_whatever_the_sweep_is_part_of(place, monkeypatch, fork):
    for name, value in dict(RANK="1", WORLD_SIZE="4").items():
        monkeypatch.setenv(name, value)
    assert sweep("few_shot", "--shots", 1, "--seeds", 1, *fork, trainers=["CoOp"]).returncode == 0
    [path] = place.rglob("result.json")
    assert records.read(path)["processes"] == "1"
