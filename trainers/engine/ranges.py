"""What an option may be, for those whose type alone lets nonsense through: checked before anything is read.

Those every run has stand here, a trainer's own beside its defaults (`ranges`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cilmp.clip.model import DTYPES
from cilmp.errors import UserError


class Range(NamedTuple):
    holds: Callable[[object], bool]
    told: str  # "... is X: <told>"


def number(low: float = -math.inf, high: float = math.inf, open_low: bool = False, told: str = "") -> Range:
    """A finite number from low (without it: open_low) to high."""

    def holds(value: object) -> bool:
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return fine and (value > low if open_low else value >= low) and value <= high

    least = f"more than {low:g}" if open_low else f"{low:g} or more"
    ends = f"{low:g} to {high:g}" if math.isfinite(low) and not open_low else f"{least}, at most {high:g}"
    return Range(holds, told or f"a number, {ends if math.isfinite(high) else least}")


def one_of(*choices: object) -> Range:
    return Range(lambda value: value in choices, f"one of {', '.join(map(str, choices))}")


def several(each: Range, count: int, rising: bool = False) -> Range:
    """`count` numbers, each in its range."""

    def holds(value: object) -> bool:
        fine = isinstance(value, (list, tuple)) and len(value) == count and all(map(each.holds, value))
        return fine and (not rising or list(value) == sorted(value))

    return Range(holds, f"{count} numbers{' in rising order' if rising else ''}, each {each.told}")


COUNT, AT_LEAST_0, FRACTION = number(1), number(0), number(0, 1)
SHOTS = Range(lambda value: value == -1 or COUNT.holds(value), "1 or more, or -1 for all images")

RANGES: dict[str, Range] = {
    "SEED": Range(lambda value: number(-1, 2**32 - 1).holds(value), "-1 (a new one every time) to 4294967295"),
    "DATASET.NUM_SHOTS": SHOTS,
    "DATASET.SUBSAMPLE_CLASSES": one_of("all", "base", "new"),
    "DATASET.FEWSHOT": one_of("balanced", "imbalanced"),
    "DATASET.HELD_BACK": Range(lambda value: FRACTION.holds(value) and value < 1, "a share, 0 or more and less than 1"),
    "DATASET.CACHE_MB": AT_LEAST_0,
    "DATASET.FEATURE_CACHE_MB": AT_LEAST_0,
    "DATALOADER.NUM_WORKERS": AT_LEAST_0,
    "DATALOADER.AUGMENT": one_of("workers", "device"),
    "DATALOADER.K_TRANSFORMS": COUNT,
    "DATALOADER.TRAIN_X.BATCH_SIZE": COUNT,
    "DATALOADER.TEST.BATCH_SIZE": COUNT,
    "INPUT.SIZE": several(COUNT, 2),
    "INPUT.RRCROP_SCALE": several(number(0, 1, open_low=True), 2, rising=True),
    "INPUT.PIXEL_MEAN": several(number(), 3),
    "INPUT.PIXEL_STD": several(number(0, open_low=True), 3),
    "OPTIM.LR": AT_LEAST_0,
    "OPTIM.MAX_EPOCH": COUNT,
    "OPTIM.WEIGHT_DECAY": AT_LEAST_0,
    "OPTIM.MOMENTUM": FRACTION,
    "OPTIM.ADAM_BETA1": number(0, 0.999999),
    "OPTIM.ADAM_BETA2": number(0, 0.999999),
    "OPTIM.WARMUP_CONS_LR": AT_LEAST_0,
    "OPTIM.WARMUP_MIN_LR": AT_LEAST_0,
    "TRAIN.PRINT_FREQ": COUNT,
    "TRAIN.CHECKPOINT_FREQ": number(),
    "TRAIN.CUDA_GRAPH": one_of("auto", "on", "off"),
    "TEST.SPLIT": one_of("val", "test"),
    "TEST.FINAL_MODEL": one_of("last_step", "best_val"),
}

PREC, FORWARD = one_of(*DTYPES), one_of("fast", "literal")
TEMPLATE = Range(lambda value: value == "" or value.count("{}") == 1, "a sentence with {} for the class name, or empty")
TEMPLATES = Range(lambda value: all("{}" in str(item) for item in value), "sentences with {} for the class name")


def check(values: Mapping[str, object], own: Mapping[str, Range], block: str) -> None:
    """values: {'OPTIM.LR': 0.002, ...} of a whole configuration; own: ranges of a trainer's block, by bare names."""
    ranges = RANGES | {f"TRAINER.{block}.{name}": span for name, span in own.items()}
    for key, span in ranges.items():
        if key in values and not span.holds(values[key]):
            raise UserError(f"{key} is {shown(values[key])}; it has to be {span.told}.")


def shown(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(tuple(value)) if isinstance(value, Sequence) else str(value)
