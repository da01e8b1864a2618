"""The record of a run: written last and atomically, so that its presence means the run is done.

Fields: docs/results.md.  A metric that does not exist for a run (AUROC where the test split holds one class) is null,
never NaN, so that any JSON reader takes the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from cilmp.errors import UserError
from cilmp.files import writing

NAME = "result.json"
VERSION = 1  # of the metrics' definitions: records of different versions do not share a table
# What may differ between two runs without changing their numbers.
IRRELEVANT = {
    "OUTPUT_DIR",
    "RESUME",
    "DATASET.ROOT",
    "VERBOSE",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "TEST.SAVE_PREDICTIONS",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.NO_TEST",
}


def write(path: str | Path, record: dict) -> Path:
    """A reader sees the whole record or none."""
    with writing(path, mend="check --output-dir") as file:
        json.dump(plain(record), file, indent=1, allow_nan=False)
        file.write("\n")
    return Path(path)


def read(path: str | Path) -> dict:
    """The record at a path, or of a run's folder."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No record at {path}: the run has not finished; start it again.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"The record {path} is damaged ({error}): delete it and start the run again.") from None
    wanted = ("version", "trainer", "dataset", "classes", "shots", "seed", "metrics")
    absent = [key for key in wanted if key not in record] if isinstance(record, dict) else wanted
    if absent:
        raise UserError(f"{path} is not a run's record: it lacks {', '.join(absent)}; start the run again.")
    return record


def plain(value):
    """What JSON can hold: tuples as lists, numpy's and torch's scalars as Python's, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
