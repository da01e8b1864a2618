"""Bad input to every program of the house ends in one line that names it, and in exit code 2; never in a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
RUNS = HOME / "tests" / "results" / "golden" / "runs"
ONE = next(RUNS.rglob("result.json")).parent
TRAIN = "train --trainer CoOp --config-file tiny --dataset-config-file phantoms --root . --output-dir out"

ROWS = {  # command: what its one line has to say
    "tain": "Unknown verb 'tain'. Did you mean train",
    "train --trainer CoOpp": "Unknown trainer 'CoOpp'. Did you mean CoOp",
    "train --trainer CoOp --config-file tyny --dataset-config-file phantoms": "Did you mean tiny",
    f"{TRAIN} OPTIM.LR -1": "OPTIM.LR is -1",
    f"{TRAIN} DATASET.NUM_SHOTS 0": "DATASET.NUM_SHOTS is 0",
    f"{TRAIN} TRAINER.COCOOP.N_CTX 4": "CoOp does not read TRAINER.COCOOP.N_CTX",
    f"{TRAIN} --eval-only DATASET.CLASSES_OF PHANTOM": "Did you mean PHANTOMS",
    f"{TRAIN} DATASET.CLASSES_OF PHANTOMS_B": "use --eval-only --model-dir",
    f"{TRAIN} --eval-only DATASET.CLASSES_OF PHANTOMS": "which is tested here",
    "sweep few_shot phantoms -- DATASET.CLASSES_OF PHANTOMS_B": "is set by the sweep: use domain_generalisation",
    f"{TRAIN} --resume nowhere": "No checkpoint in nowhere",
    f"{TRAIN} --eval-only": "name its run's folder as --model-dir",
    "sweep few_shot bussi": "Did you mean busi",
    "sweep few_shot --jobs 0": "jobs",
    "sweep cross_dataset phantoms": "needs a source and at least one target",
    "sweep domain_generalisation phantoms": "needs a source and at least one target",
    "results nowhere": "No folder nowhere",
    f"results {RUNS} --table base2new --metric acuracy": "Did you mean accuracy",
    f"results {RUNS} --where seed=9": "leaves no run",
    "report nowhere": "No folder nowhere",
    "predict --model-dir nowhere x.png": "No image or folder at x.png",
    f"predict --model-dir {ONE} {__file__}": "",
    f"predict --model-dir {ONE} {__file__} --sets 0.1": f"No validation.npz in {ONE}, which",
    "calibrate nowhere": "No record at nowhere: the run has not finished",
    f"calibrate {ONE} --alpha 1.5": "alpha is 1.5: give a number between 0 and 1",
    "data check BUSSI --root .": "Did you mean BUSI",
    "data check BUSI --root .": "BUSI is not below",
    "data check PHANTOMS --root . --against PHANTOMS": "is the set itself",
    "data prepare FOLDER --source nowhere --root .": "No download at nowhere",
    "llm show nowhere.safetensors": "No representation file at nowhere.safetensors",
    "llm extract --classes a b --model nowhere.gguf --out a.safetensors": "No model at nowhere.gguf",
    "clip show ViT-B16": "Did you mean ViT-B/16",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", ROWS)
def test_one_line(command, tmp_path):
    environment = {"PYTHONPATH": f"{HOME}:{HOME / 'dassl-compat'}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    words = [sys.executable, "-m", "cilmp", *command.split()]
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and len(lines) == 1 and "Traceback" not in run.stderr, run.stderr
    assert ROWS[command] in lines[0]
    assert not (tmp_path / "out" / "result.json").exists()
