"""The sweep with a quick stand-in for train.py (program.py): skips, redoes, survives kills, reports failures."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from started import SBATCH, command, sweep

from cilmp.results import protocols, records
from cilmp.results import runs as finished
from cilmp.sweep import jobs

pytestmark = pytest.mark.slow  # whole sweeps

HERE = Path(__file__).parent


def rendered(output):
    return protocols.base2new(finished.collect(output)[0])[0].render("csv")


def test_to_the_table_in_coop_s_folders(place):
    run = sweep("base2new", "--jobs", 2)
    assert run.returncode == 0, run.stderr
    for part in ("train_base", "test_new"):
        for seed in (1, 2, 3):
            assert (place / f"out/base2new/{part}/phantoms/shots_16/CILMP/tiny/seed{seed}/result.json").is_file()
    table = protocols.base2new(finished.collect("out")[0])[0].render()
    assert table in run.stdout
    assert "[18/18] 0 failed" in run.stderr and "to go" in run.stderr
    before = {p: p.stat().st_mtime_ns for p in place.rglob("result.json")}
    again = sweep("base2new")
    assert "18 finished" in again.stdout and table in again.stdout
    assert before == {p: p.stat().st_mtime_ns for p in place.rglob("result.json")}


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["fork", "--no-fork"])
def test_killed_and_resumed_gives_the_same_table(place, fork):
    """Killed at random moments; those of a failure come again with the seed it printed, KILL_SEED=... pytest ..."""
    seed = int(os.environ.get("KILL_SEED") or time.time_ns())
    print(f"KILL_SEED={seed}")
    assert sweep("base2new", output="whole").returncode == 0
    more = [fork] if fork.startswith("--") else []
    rng = random.Random(seed)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            [*command("base2new", "--jobs", 2, *more, output="cut"), "--", "SLEEP", "0.4"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(rng.uniform(0.2, 1.2))
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(timeout=20) in (0, -number, 128 + number)  # 0: it was done before
    for path in list(place.joinpath("cut").rglob("result.json"))[:2]:
        path.write_text(path.read_text()[:40])  # and two records half-written
    run = sweep("base2new", *more, output="cut")
    assert run.returncode == 0, run.stderr
    assert rendered("cut") == rendered("whole")


def test_a_failure_stops_nothing_but_what_waits_for_it(place):
    run = sweep("base2new", "--seeds", 1, "--", "FAIL", "CoOp")
    assert run.returncode == 1
    assert "exit code 2" in run.stderr and "    error: CoOp fails as asked" in run.stderr
    assert "not started: it waits for CoOp PHANTOMS base 16 shots seed 1" in run.stderr
    assert "2 of 6 runs failed" in run.stderr
    row = next(line for line in run.stdout.splitlines() if "CoOp" in line)
    assert row.split()[-3:] == ["missing"] * 3
    assert sweep("base2new", "--seeds", 1).returncode == 0


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_work(place):
    both = [subprocess.Popen([*command("base2new"), "--", "SLEEP", "0.1"], stderr=subprocess.PIPE, text=True)
            for _ in range(2)]  # fmt: skip
    assert [p.wait(timeout=60) for p in both] == [0, 0], [p.stderr.read() for p in both]
    runs, _ = finished.collect("out")
    assert len(runs) == 18 and len({run["pid"] for run in runs}) == 18


def test_killed_sweep_leaves_no_run_behind(place):
    process = subprocess.Popen([*command("base2new", "--jobs", 2), "--", "SLEEP", "30"], stderr=subprocess.DEVNULL)
    started = time.time()
    while len(list(place.rglob(".sweep"))) < 2 and time.time() < started + 20:
        time.sleep(0.05)
    process.kill()
    process.wait()
    if sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    time.sleep(0.3)
    [first, *_] = place.rglob(".sweep")
    import fcntl

    with first.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more


def test_dry_run_tells_states_and_commands(place):
    sweep("base2new", "--seeds", 1, trainers=["CoOp"])
    damaged = place / "out/base2new/test_new/phantoms/shots_16/CoOp/tiny/seed1/result.json"
    damaged.write_text("{")
    run = sweep("base2new", "--seeds", 1, 2, "--dry-run", trainers=["CoOp"])
    states = [line.split()[1] for line in run.stdout.splitlines() if line.startswith("#")]
    assert states == ["done", "broken", "missing", "missing"]
    assert run.stdout.count("program.py --seed") == 4
    assert "DATASET.SUBSAMPLE_CLASSES new" in run.stdout and "--eval-only --model-dir" in run.stdout
    assert not list(place.rglob("seed2"))


def plan(place, **change):
    base = dict(protocol="few_shot", configs=place / "configs", data="", output=Path("out"))
    base |= dict(datasets=["busi", "kvasir"], trainers=["CoOp"], seeds=[1], shots=[16], config="tiny")
    return jobs.Plan(**base | change)


def test_protocols(place):
    folders = [job.folder.as_posix() for job in jobs.cross_dataset(plan(place))]
    assert folders == ["out/busi/CoOp/tiny_16shots/seed1", "out/evaluation/busi/CoOp/tiny_16shots/kvasir/seed1"]
    [home, away] = jobs.domain_generalisation(plan(place))
    assert home.folder.as_posix() == folders[0] and "DATASET.CLASSES_OF" not in home.arguments
    assert away.folder.as_posix() == "out/domain_generalisation/busi/CoOp/tiny_16shots/kvasir/seed1"
    assert away.after is home and away.arguments[-2:] == ["DATASET.CLASSES_OF", "BUSI"]
    [home, away] = jobs.domain_generalisation(
        plan(place, extra=["DATASET.CLASS_MAP", "['a = b']", "USE_CUDA", "False"])
    )
    assert home.arguments[-2:] == ["USE_CUDA", "False"] and "DATASET.CLASS_MAP" not in home.arguments
    assert away.arguments[-4:] == ["DATASET.CLASS_MAP", "['a = b']", "USE_CUDA", "False"]
    [full] = jobs.few_shot(plan(place, datasets=["busi"], shots=[-1]))
    assert full.folder.as_posix() == "out/busi/CoOp/tiny_full/seed1" and "-1" in full.arguments
    assert len(jobs.few_shot(plan(place, shots=[1, 2, 4, 8, 16], seeds=[1, 2, 3]))) == 30


def test_a_yaml_for_the_protocol_is_preferred(place):
    folder = place / "configs" / "trainers" / "CoOp"
    (folder / "tiny_few_shot.yaml").write_bytes((folder / "tiny.yaml").read_bytes())
    [job] = jobs.few_shot(plan(place, datasets=["busi"]))
    assert job.folder.as_posix() == "out/busi/CoOp/tiny_few_shot_16shots/seed1"
    assert job.fields["config"] == "tiny_few_shot" and str(folder / "tiny_few_shot.yaml") in job.arguments
    assert {job.fields["config"] for job in jobs.base2new(plan(place, protocol="base2new"))} == {"tiny"}


def test_all_trainers_are_those_that_serve_the_protocol(place):
    line = [sys.executable, "-m", "cilmp.sweep", "base2new", "--seeds", "1", "--dry-run", "--trainers", "all"]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shown = {line.split("--trainer ")[1].split()[0] for line in run.stdout.splitlines() if "--trainer" in line}
    assert {"CILMP", "KgCoOp", "CLIPAdapter"} <= shown and not shown & {"LinearProbe", "GDA"}


def test_cross_dataset_table(place):
    line = command("cross_dataset", "--seeds", 1, 2, "--cfg", "tiny")
    line[4:4] = ["busi", "kvasir", "phantoms"]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    runs = finished.where(finished.collect("out")[0], ["seed=1"])
    got = {(r["trainer"], r["dataset"]): r["metrics"]["accuracy"] for r in runs}
    [table] = protocols.cross_dataset(runs)
    assert list(table.columns) == ["BUSI (source)", "KVASIR", "PHANTOMS", "average of targets"]
    row = dict(table.rows)[("CoOp",)]
    expected = [got["CoOp", name] for name in ("BUSI", "KVASIR", "PHANTOMS")]
    assert [cell.mean for cell in row] == pytest.approx([*expected, sum(expected[1:]) / 2])
    assert len(table.rows) == 3 and "trained on BUSI" in run.stdout


def test_domain_generalisation_table(place):
    """A head serves it too; a method that fails is missing in its row, and its row is not missing."""
    line = command("domain_generalisation", "--seeds", 1, 2, "--cfg", "tiny", trainers=("CoOp", "LinearProbe"))
    line[4:4] = ["busi", "kvasir", "phantoms"]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    [table] = protocols.domain_generalisation(finished.collect("out")[0])
    assert list(table.columns) == ["BUSI (source)", "KVASIR", "PHANTOMS", "average of targets", "drop"]
    assert table.render() in run.stdout and len(table.rows) == 2
    line[line.index("--output") + 1] = "other"
    run = subprocess.run([*line, "--", "FAIL", "CoOp"], capture_output=True, text=True)
    assert run.returncode == 1
    rows = [line.split() for line in run.stdout.splitlines() if line.startswith(("CoOp", "LinearProbe"))]
    assert rows[-1] == ["CoOp", *["missing"] * 5] or rows[0] == ["CoOp", *["missing"] * 5]


def test_a_run_with_other_options_is_said(place):
    [job] = jobs.few_shot(plan(place, datasets=["busi"]))
    record = dict(job.fields, version=1, metrics={"accuracy": 1.0}, options={"OPTIM.LR": 0.1, "OUTPUT_DIR": "x"})
    records.write(job.folder / records.NAME, record)
    job.options = {"OPTIM.LR": 0.1, "OUTPUT_DIR": "y"}
    assert job.state() == ("done", "")
    job.options = {"OPTIM.LR": 0.2}
    assert job.state() == ("differs", "OPTIM.LR 0.1 there, 0.2 asked")


@pytest.mark.parametrize("arguments, said", [
    (["base2new", "bussi"], "Did you mean busi"),
    (["base2new", "busi", "--cfg", "tyny"], "Did you mean tiny"),
    (["base2new", "--trainers", "CoOpp"], "Did you mean CoOp"),
    (["base2new", "--trainers", "LinearProbe"], "no base2new; use few_shot or full"),
    (["cross_dataset", "busi", "--cfg", "tiny"], "needs a source and at least one target"),
    (["domain_generalisation", "busi", "--cfg", "tiny"], "domain_generalisation needs a source and"),
    (["base2new", "--program", "trane.py"], "No program trane.py"),
])  # fmt: skip
def test_slips_are_one_line_before_anything_starts(place, arguments, said):
    end = [] if "--trainers" in arguments else ["--trainers", "CoOp"]
    base = [sys.executable, "-m", "cilmp.sweep", *arguments[:1], "--program", "program.py", *arguments[1:], *end]
    run = subprocess.run(base, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1
    assert said in run.stderr and not (place / "output").exists()


@pytest.mark.slow
def test_slurm_array(place, monkeypatch):
    """A stand-in for sbatch runs the array's tasks one after another."""
    (place / "bin").mkdir()
    (place / "bin" / "sbatch").write_text(SBATCH.format(python=sys.executable))
    (place / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    run = sweep(
        "base2new", "--seeds", 1, "--launcher", "slurm", "--sbatch", "--partition gpu", trainers=["CoOp", "CILMP"]
    )
    assert run.returncode == 0, run.stderr
    assert "Submitted as 41, 41" in run.stdout
    first, second = (place / "calls").read_text().splitlines()
    assert "--partition gpu" in first and "--dependency=afterany:41" in second
    again = sweep("base2new", "--seeds", 1, "--launcher", "slurm", trainers=["CoOp", "CILMP"])
    assert (
        "4 finished" in again.stdout
        and "CILMP" in again.stdout
        and len((place / "calls").read_text().splitlines()) == 2
    )


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run("timeout 5 sinfo -h -t idle,mix 2>/dev/null | grep -q .", shell=True).returncode != 0,
    reason="no SLURM here",
)
def test_real_slurm(place):
    assert sweep("base2new", "--seeds", 1, "--launcher", "slurm", trainers=["CoOp"]).returncode == 0
    started = time.time()
    while len(list(place.rglob("result.json"))) < 2 and time.time() < started + 60:
        time.sleep(0.3)
    run = sweep("base2new", "--seeds", 1, "--launcher", "slurm", trainers=["CoOp"])
    assert "2 finished" in run.stdout, [path.read_text() for path in place.rglob("slurm/*/*.txt")]


@pytest.mark.slow
def test_real_ray(place):
    pytest.importorskip("ray")
    run = sweep("base2new", "--seeds", 1, "--launcher", "ray", trainers=["CoOp"])
    assert run.returncode == 0 and "[2/2] 0 failed" in run.stderr


def test_slurm_without_sbatch_is_one_line(place, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    run = sweep("base2new", "--launcher", "slurm", trainers=["CoOp"])
    assert run.returncode == 2 and "login node" in run.stderr


def test_every_script_runs_its_protocol():
    root = HERE.parents[1] / "scripts"
    for script in sorted(root.glob("*/*.sh")):
        told = subprocess.run(
            ["bash", str(script), "--dry-run", "--help"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHON": "echo"},
        ).stdout
        assert told.split() == ["-m", "cilmp.sweep", script.stem, "--dry-run", "--help"]
        assert (root.parent / "configs" / "trainers" / script.read_text().split("TRAINERS=")[1].split()[0]).is_dir()
