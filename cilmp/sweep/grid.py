"""A grid over options: `KEY=v1,v2` among the options of a sweep; the points are the product of all such.

Each point has a folder below the output, named by what it sets, and in it CoOp's layout: rank 2 and rank 4 are runs
of their own, which resume, and refuse other options, as any run does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from cilmp.errors import UserError
from cilmp.sweep.jobs import Plan
from cilmp.sweep.options import once

FLAGS = {  # options that a sweep sets itself
    "DATASET.NUM_SHOTS": "--shots",
    "SEED": "--seeds",
    "DATASET.SUBSAMPLE_CLASSES": "another protocol",
    "DATASET.NAME": "the names of data sets",
    "DATASET.CLASSES_OF": "domain_generalisation",
    "TRAINER.NAME": "--trainers",
    "OUTPUT_DIR": "--output",
}


class Point(NamedTuple):
    """One value of each option; none where there is no grid."""

    pairs: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return ", ".join(f"{short(key)} {value}" for key, value in self.pairs)

    @property
    def folder(self) -> str:
        told = "-".join(f"{short(key)}_{value}" for key, value in self.pairs)
        return re.sub(r"[^\w.,+-]+", "_", told)

    def of(self, plan: Plan) -> Plan:
        options = [word for pair in self.pairs for word in pair]
        return replace(plan, output=plan.output / self.folder, extra=[*plan.extra, *options], point=self.name)


def short(key: str) -> str:
    return key.split(".")[-1].lower()


def parse(words: Sequence[str]) -> tuple[list[str], list[Point]]:
    """Options as they are given -> (those of every run, KEY VALUE; the points of the grid, one without options where
    there is no grid).  The order of the options tells nothing: a point's folder is the same whatever it was."""
    fixed: list[str] = []
    values: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        key, equals, text = word.partition("=")
        if not equals:
            fixed += [word, *itertools.islice(rest, 1)]
        elif key in values:
            raise UserError(f"{key} has two lists of values: give it one, {key}={','.join([*values[key], text])}.")
        else:
            values[key] = listed(key, text)
    for key in fixed[::2]:
        if key in FLAGS:
            raise UserError(f"{key} is set by the sweep: use {FLAGS[key]}.")
    for key in values:
        if key in fixed[::2]:
            raise UserError(f"{key} has one value and a list of values: give it either.")
    points = [Point(tuple(zip(sorted(values), point, strict=True)))
              for point in itertools.product(*(values[key] for key in sorted(values)))]  # fmt: skip
    folders = [point.folder for point in points]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"Two points of the grid would share the folder {folder}: sweep one after the other.")
    return fixed, points


def listed(key: str, text: str) -> list[str]:
    """Values between commas; a comma inside brackets belongs to its value."""
    values = [value.strip() for value in re.split(r",(?![^(\[]*[)\]])", text)]
    if key in FLAGS:
        raise UserError(f"No grid over {key}: use {FLAGS[key]}.")
    if "" in values:
        raise UserError(f"{key}={text} has an empty value: write {key}=v1,v2 without blanks.")
    once(key, [plain(value) for value in values])
    return values


def plain(value: str) -> str:
    """0.010 and 1e-2 are one."""
    try:
        return f"{float(value):.12g}"
    except ValueError:
        return value
