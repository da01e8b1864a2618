"""A grid of options: its points, their folders, and a sweep over it that resumes and refuses as any does."""

import subprocess
import sys

import pytest
from started import sweep

from cilmp.errors import UserError
from cilmp.results import runs as finished
from cilmp.sweep.grid import parse

slow = pytest.mark.slow


def test_without_a_grid_there_is_one_point_and_coop_s_layout():
    fixed, [point] = parse(["OPTIM.LR", "0.1", "TRAINER.COOP.CTX_INIT", "a=b"])
    assert fixed == ["OPTIM.LR", "0.1", "TRAINER.COOP.CTX_INIT", "a=b"]
    assert (point.pairs, point.folder, point.name) == ((), "", "")


def test_points_are_the_product_whatever_the_order():
    _, points = parse(["A.RANK=2,4", "OPTIM.LR", "0.1", "A.DROP=0,0.1,0.2"])
    assert len(points) == 6 and parse(["A.DROP=0,0.1,0.2", "A.RANK=2,4"])[1] == points
    assert points[1].folder == "drop_0-rank_4" and points[1].name == "drop 0, rank 4"


def test_a_comma_in_brackets_belongs_to_its_value_and_a_path_is_one_folder():
    [a, b] = parse(["INPUT.SIZE=(64, 64),[32,32]"])[1]
    assert (a.pairs, b.pairs) == ((("INPUT.SIZE", "(64, 64)"),), (("INPUT.SIZE", "[32,32]"),))
    [a, b] = parse(["T.REPRESENTATIONS=x/busi.safetensors,y/busi.safetensors"])[1]
    assert a.folder == "representations_x_busi.safetensors" and b.folder == "representations_y_busi.safetensors"
    assert not any("/" in point.folder for point in parse(["A.B=../..,/,c"])[1])


@pytest.mark.parametrize(
    "words, said",
    [
        (["A.B=2,,4"], "A.B=2,,4 has an empty value"),
        (["A.B="], "A.B= has an empty value"),
        (["A.B=2,4,2"], "A.B has 2 2 times"),
        (["A.B=2", "A.B=4"], "A.B has two lists of values: give it one, A.B=2,4."),
        (["A.B", "2", "A.B=4"], "A.B has one value and a list of values"),
        (["A.B=x f,x/f"], "Two points of the grid would share the folder b_x_f"),
        (["DATASET.NUM_SHOTS=1,2"], "No grid over DATASET.NUM_SHOTS: use --shots."),
    ],
)
def test_a_slip_is_one_line(words, said):
    with pytest.raises(UserError) as error:
        parse(words)
    assert str(error.value).startswith(said)


@slow
def test_each_point_is_a_run_of_its_own_and_a_row_named_by_its_options(place):
    line = ("base2new", "--seeds", 1, 2, "--", "OPTIM.LR=0.1,0.02", "A.RANK=4,16")
    run = sweep(*line, trainers=["CoOp"])
    assert run.returncode == 0 and "16 runs" in run.stdout, run.stderr
    for folder in ("rank_4-lr_0.1", "rank_16-lr_0.1", "rank_4-lr_0.02", "rank_16-lr_0.02"):
        assert (place / f"out/{folder}/base2new/test_new/phantoms/shots_16/CoOp/tiny/seed2/result.json").is_file()
    names = {record["name"] for record in finished.collect("out")[0]}
    assert names == {f"CoOp [rank {rank}, lr {rate}]" for rank in (4, 16) for rate in ("0.1", "0.02")}
    assert all(name in run.stdout for name in names) and run.stdout.index("rank 4,") < run.stdout.index("rank 16,")


@slow
def test_it_resumes_grows_and_refuses(place):
    line = ("few_shot", "--seeds", 1, "--shots", 1, "--")
    assert sweep(*line, "A.RANK=2,4", trainers=["CoOp"]).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in place.rglob("result.json")}
    grown = sweep(*line, "A.RANK=8,4,2", trainers=["CoOp"])
    assert "3 runs, 2 finished, 0 broken, 1 to do" in grown.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    other = sweep(*line, "A.RANK=2,16", "OPTIM.LR", "0.5", trainers=["CoOp"])
    assert other.returncode == 2 and "OPTIM.LR default there, 0.5 asked" in other.stderr
    assert not (place / "out/rank_16").exists()


@slow
def test_a_point_that_fails_is_named_and_missing_in_its_own_row(place):
    blocked = place / "out/rank_4/phantoms/CoOp/tiny_1shots"
    blocked.mkdir(parents=True)
    (blocked / "seed2").write_text("")
    run = sweep("few_shot", "--seeds", 1, 2, "--shots", 1, "--", "A.RANK=2,4", trainers=["CoOp"])
    assert run.returncode == 1 and "FAILED CoOp [rank 4] PHANTOMS all 1 shots seed 2" in run.stderr
    rows = [line for line in run.stdout.splitlines() if line.startswith("CoOp")]
    assert len(rows) == 2 and "CoOp [rank 4]" in rows[1] and "(1 of 2 seeds)" in rows[1]


@slow
@pytest.mark.parametrize(
    "option, said",
    [
        ("TRAINER.CILMP.LOW_RANK_DIMENSION=2,0", "TRAINER.CILMP.LOW_RANK_DIMENSION"),
        ("TRAINER.CILMP.LOW_RANK_DIMENSION=2,x", "TRAINER.CILMP.LOW_RANK_DIMENSION"),
        ("TRAINER.CILMP.LOW_RANC=2,4", "TRAINER.CILMP.LOW_RANC"),
    ],
)
def test_every_value_is_checked_before_anything_starts(place, option, said):
    line = [sys.executable, "-m", "cilmp.sweep", "full", "--trainers", "CILMP", "--", option]
    run = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and said in run.stderr
    assert not (place / "output").exists()
