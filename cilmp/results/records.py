"""The record of a run: written last and atomically, so that its presence means the run is done.

`FIELDS` is its schema, told in docs/results.md and held to on reading.  A metric that does not exist for a run (AUROC
where the test split holds one class) is null, never NaN, so that any JSON reader takes the file.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cilmp.errors import UserError
from cilmp.files import writing

NAME = "result.json"
VERSION = 1  # of the metrics' definitions: records of different versions do not share a table
# What may differ between two runs without changing their numbers.
IRRELEVANT = {
    "OUTPUT_DIR",
    "RESUME",
    "DATASET.ROOT",
    "DATASET.FEATURE_CACHE",
    "DATASET.FEATURE_CACHE_MB",
    "VERBOSE",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.CUDA_GRAPH",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "TEST.SAVE_PREDICTIONS",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.NO_TEST",
}


def text(value: object) -> bool:
    return isinstance(value, str)


def integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number_or_null(value: object) -> bool:
    """A number is finite as a float; a comparison with NaN is false."""
    if value is None or not isinstance(value, (int, float)) or isinstance(value, bool):
        return value is None
    return abs(value) <= sys.float_info.max


def mapping(value: object) -> bool:
    return isinstance(value, dict)


TYPES: dict[str, Callable[[object], bool]] = {
    "string": text,
    "integer": integer,
    "number or null": number_or_null,
    "object": mapping,
    "object or null": lambda value: value is None or mapping(value),
    "object of strings": mapping,
    "object of numbers or null": mapping,
}
ITEMS = {"object of strings": text, "object of numbers or null": number_or_null}  # what such an object holds


class Field(NamedTuple):
    type: str  # one of TYPES
    unit: str = ""
    required: bool = False  # of every record; what lacks elsewhere is unknown
    since: int = 1  # the version of the record that brought it


FIELDS = {
    "version": Field("integer", required=True),
    "trainer": Field("string", required=True),
    "method": Field("object"),
    "method.kind": Field("string"),
    "method.year": Field("integer"),
    "dataset": Field("string", required=True),
    "config": Field("string"),
    "backbone": Field("string"),
    "pixels": Field("object"),
    "classes": Field("string", required=True),
    "split": Field("string"),
    "shots": Field("integer", "images a class; -1: all", required=True),
    "seed": Field("integer", required=True),
    "per_class": Field("object of numbers or null", "%"),
    "metrics": Field("object of numbers or null", "%", required=True),
    "options": Field("object"),
    "made_from": Field("object of strings"),
    "seconds": Field("object of numbers or null", "s"),
    "peak_memory_mb": Field("number or null", "MB"),
    "gflops": Field("object of numbers or null", "GFLOP an image"),
    "trainable_parameters": Field("integer"),
    "device": Field("string"),
    "knowledge": Field("object or null"),
    "model_dir": Field("string"),
    "prompts": Field("string"),
    "commit": Field("string"),
    "versions": Field("object of strings"),
    "finished": Field("string", "ISO 8601, UTC"),
}


def write(path: str | Path, record: dict) -> Path:
    """A reader sees the whole record or none."""
    with writing(path, mend="check --output-dir") as file:
        json.dump(plain(record), file, indent=1, allow_nan=False)
        file.write("\n")
    return Path(path)


def read(path: str | Path) -> dict:
    """The record at a path, or of a run's folder, true to FIELDS; fields of other versions are kept as they are."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file (a pipe, a folder?): delete it and start the run again.")
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except FileNotFoundError:
        raise UserError(f"No record at {path}: the run has not finished; start it again.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The record {path} is damaged ({error}): delete it and start the run again.") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a run's record: it holds {shown(record)}; delete it and start the run again.")
    absent = [name for name, field in FIELDS.items() if field.required and name not in record]
    if absent:
        raise UserError(f"{path} is not a run's record: it lacks {', '.join(absent)}; start the run again.")
    for name, field in FIELDS.items():
        outer, _, last = name.rpartition(".")
        holder = record.get(outer, {}) if outer else record
        if last in holder and (fault := wrong(name, holder[last], field.type)):
            raise UserError(f"The record {path} is damaged ({fault}): delete it and start the run again.")
    return record


def wrong(name: str, value: Any, type: str) -> str:
    """What is wrong with a field's value; '' where nothing is."""
    if not TYPES[type](value):
        return f"field {name} holds {shown(value)}, not {article(type)}"
    inside = next((key for key in value if not ITEMS[type](value[key])), None) if type in ITEMS else None
    return "" if inside is None else f"field {name} is {article(type)}, but {inside} holds {shown(value[inside])}"


def article(type: str) -> str:
    return f"{'an' if type[0] in 'aeiou' else 'a'} {type}"


def shown(value: object) -> str:
    """A JSON value, short enough for a line."""
    whole = json.dumps(value)
    return whole if len(whole) <= 40 else f"{whole[:37]}..."


def unlike(asked: Mapping, there: Mapping, keys: Iterable[str]) -> list[str]:
    """'KEY x there, y asked' for each of the keys that differs; a key that a side lacks has its default there."""
    return [
        f"{key} {there.get(key, 'default')} there, {asked.get(key, 'default')} asked"
        for key in sorted(keys)
        if asked.get(key) != there.get(key)
    ]


def remade(now: Mapping[str, str], then: Mapping[str, str]) -> list[str]:
    """'another WHAT there than now' for each file whose hash differs; one that a side does not know tells nothing."""
    changed = [what for what in sorted(now) if now[what] and then.get(what) and now[what] != then[what]]
    return [f"another {what} there than now" for what in changed]


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def plain(value: Any) -> Any:
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
