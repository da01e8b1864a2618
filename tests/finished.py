"""A run that tests take as finished: one epoch on the embedded data set, its predictions kept."""

import sys
from pathlib import Path

import pytest

from cilmp import train
from cilmp.errors import exit_on_user_error

QUICK = ["VERBOSE", "False", "OPTIM.MAX_EPOCH", "1", "TRAIN.CHECKPOINT_FREQ", "1", "DATALOADER.TEST.BATCH_SIZE", "400"]
QUICK += ["TEST.SAVE_PREDICTIONS", "True", "DATASET.FEATURE_CACHE_MB", "0"]


def trained(data, out: Path, *options, trainer="CoOp", shots=4, test_of: Path | None = None) -> Path:
    """test_of: only a test, of that run's prompts."""
    argv = ["train.py", "--root", data, "--seed", 1, "--trainer", trainer, "--output-dir", out]
    argv += ["--eval-only", "--model-dir", test_of] if test_of else []
    argv += ["--dataset-config-file", "phantoms", "--config-file", "tiny", *QUICK, "DATASET.NUM_SHOTS", shots, *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", list(map(str, argv)))
        patch.setattr(sys, "stdout", sys.stdout)  # the run's logger takes its place
        exit_on_user_error(train.guarded)
    assert not stop.value.code
    return out
