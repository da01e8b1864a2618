"""paper.sh and ablation.sh: what they ask of the sweep, and what they leave out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
OPTIONS = ("LOW_RANK_DIMENSION", "PREFIX_LENGTH", "SUFFIX_LENGTH", "PROMPT_DEPTH_TEXT", "PROMPT_DEPTH_VISION",
           "DROPOUT", "INTERVENTION", "REPRESENTATIONS")  # fmt: skip


def script(name, *arguments, **environment):
    """With PYTHON=echo it prints what it would run."""
    clean = {k: v for k, v in os.environ.items() if k not in (*OPTIONS, "DATA", "TRAINERS", "OUTPUT", "CONTROL")}
    environment = clean | {"PYTHON": "echo"} | {k: str(v) for k, v in environment.items()}
    line = ["bash", str(HOME / "scripts" / name), *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300)


def test_the_paper_s_protocol_skips_and_names_what_is_not_there():
    run = script("paper.sh", "busi", "phantoms", "--dry-run", "--", "OPTIM.MAX_EPOCH", "1")
    assert run.stdout.split() == "-m cilmp.sweep full phantoms --beside --dry-run -- OPTIM.MAX_EPOCH 1".split()
    assert run.stderr == "skipped, not below DATA='': busi\n"
    run = script("paper.sh")
    assert (
        run.returncode == 2 and len(run.stderr.splitlines()) == 16 and "skipped, not below DATA='': odir2" in run.stderr
    )


@pytest.mark.slow
def test_the_paper_s_protocol_finds_what_is_there(tmp_path):
    (tmp_path / "busi").mkdir()
    (tmp_path / "busi" / "busi.json").write_text(json.dumps({"train": [["a.png", 0, "normal"]], "test": []}))
    run = script("paper.sh", "BUSI", "kvasir", "--dry-run", PYTHON=sys.executable, DATA=tmp_path, TRAINERS="CoOp")
    assert run.returncode == 0 and "kvasir" in run.stderr and "busi" not in run.stderr, run.stderr
    assert run.stdout.count("configs/datasets/busi.yaml") == 3 and "DATASET.NUM_SHOTS -1" in run.stdout


def test_an_ablation_is_a_grid_an_option_and_an_empty_variable_leaves_it_out(tmp_path):
    left_out, output = dict.fromkeys(OPTIONS[1:6], ""), tmp_path / "ablation"
    line = ("busi", "--dry-run", "--", "OPTIM.MAX_EPOCH", "1")
    run = script("ablation.sh", *line, OUTPUT=output, LOW_RANK_DIMENSION="2,3", REPRESENTATIONS="a,b", **left_out)
    extract, *told = run.stdout.splitlines()
    random = f"{output}/random-busi.safetensors"
    assert extract == f"echo -m cilmp.llm extract --control random --like a --out {random}"
    assert not output.exists()
    asked = "-m cilmp.sweep full busi --dry-run -- OPTIM.MAX_EPOCH 1 TRAINER.CILMP"
    assert told == [
        "== LOW_RANK_DIMENSION",
        f"{asked}.LOW_RANK_DIMENSION=2,3",
        *(f"== {name}: left out" for name in OPTIONS[1:6]),
        "== INTERVENTION",
        f"{asked}.INTERVENTION=conditional,loreft,noreft,none",
        "== REPRESENTATIONS",
        f"{asked}.REPRESENTATIONS=a,b,{random}",
    ]


def test_an_ablation_goes_on_after_an_option_that_failed(tmp_path):
    run = script("ablation.sh", OUTPUT=tmp_path, PYTHON="false", CONTROL="")
    assert run.returncode == 1 and [line[3:] for line in run.stdout.splitlines()] == list(OPTIONS)
