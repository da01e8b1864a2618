"""The split file: {"train": [[path, label, class name], ...], "val": [...], "test": [...]}, as CoOp writes it."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cilmp.errors import UserError, brief
from cilmp.files import write_text, writing

NAMES = ("train", "val", "test")


class Item(NamedTuple):
    path: str  # relative to the image folder, with /
    label: int
    classname: str


Split = dict[str, list[Item]]


def read(path: Path) -> Split:
    """The lists of a split file; 'val' is missing where the file has none.  UserError for whatever is wrong with it."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"No split file at {path}.") from None
    except OSError as error:
        raise UserError(f"The split file {path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"The split file {path} is not JSON: {error}.") from None
    if not isinstance(tree, dict):
        raise UserError(
            f"The split file {path} holds a {type(tree).__name__}, not an object with the lists train, test."
        )
    for name in ("train", "test"):
        if not tree.get(name):
            there = ", ".join(tree) or "nothing"
            raise UserError(f"The split file {path} has no images under '{name}' (it has: {there}).")
    split = {name: items(tree[name], f"{path}: '{name}'") for name in NAMES if tree.get(name)}
    classnames(split, path)
    return split


def items(rows: object, place: str) -> list[Item]:
    if not isinstance(rows, list):
        raise UserError(f"{place} is a {type(rows).__name__}, not a list of [path, label, class name].")
    for i, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 3 and [type(x) for x in row] == [str, int, str]):
            raise UserError(f"{place}, entry {i} is {str(row)[:80]}, not [path, label, class name].")
        if not row[2].strip():
            raise UserError(f"{place}, entry {i} ({row[0][:80]}) has an empty class name: name it, or take it out.")
        if not inside(row[0]):
            raise UserError(
                f"{place}, entry {i}: {row[0]!r} is not a path below the image folder, with / between folders."
            )
    return [Item(*row) for row in rows]


def inside(path: str) -> bool:
    """Is it a relative path that stays in its folder, on any machine?"""
    return bool(path) and ".." not in re.split(r"[/\\]", path) and not re.search(r"^[/\\]|^[A-Za-z]:|[\0-\x1f]", path)


def classnames(split: Split, path: Path) -> list[str]:
    """Names in label order: labels 0 to n-1, each with one name, all of them in the training list."""
    names: dict[int, str] = {}
    for item in split["train"]:
        if names.setdefault(item.label, item.classname) != item.classname:
            both = f"'{names[item.label]}' and '{item.classname}'"
            raise UserError(f"{path}: label {item.label} has two class names, {both}.")
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{path}: the training labels are {brief(sorted(names))}, not 0 to {len(names) - 1}.")
    ordered = [names[label] for label in range(len(names))]
    if len(set(ordered)) < len(ordered):
        twice = next(name for name in ordered if ordered.count(name) > 1)
        raise UserError(f"{path}: the class name '{twice}' has two labels.")
    for name in ("val", "test"):
        for item in split.get(name, ()):
            if names.get(item.label) != item.classname:
                raise UserError(
                    f"{path}: '{name}' calls label {item.label} '{item.classname}' ({item.path}); in 'train' it is "
                    f"{names.get(item.label, 'not there')!r}."
                )
    return ordered


def write(path: Path, split: Split) -> Path:
    """Atomic: an interrupted program leaves no half file."""
    rows = {name: [list(item) for item in split[name]] for name in NAMES if split.get(name)}
    return write_text(path, json.dumps(rows, ensure_ascii=False, indent=0), mend="check --root")


def groups_file(split_file: Path) -> Path:
    return split_file.with_name(f"{split_file.stem}.groups.csv")


def write_groups(split_file: Path, rows: list[tuple[str, str]]) -> None:
    """Which images belong together, beside the split file: `check` holds any later split to it."""
    path = groups_file(split_file)
    if not rows:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"Cannot remove {path} ({error.strerror}): check --root.") from None
        return
    with writing(path, mend="check --root") as file:
        csv.writer(file).writerows([("path", "group"), *rows])


def read_groups(split_file: Path) -> dict[str, str]:
    """Path -> group, {} where nothing is noted."""
    path = groups_file(split_file)
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return {row["path"]: row["group"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is not a table of path and group ({type(error).__name__}: {error}).") from None


def missing(folder: Path, paths: Iterable[str]) -> list[str]:
    """Which files are not there: one listing a directory, because a look at each file is slow on network disks."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        wanted[os.path.dirname(path)].append(path)
    absent = []
    for directory, files in wanted.items():
        try:
            there = set(os.listdir(folder / directory))
        except OSError:
            there = set()
        # a second look: some file systems ignore case
        absent += [p for p in files if os.path.basename(p) not in there and not (folder / p).is_file()]
    return absent
