from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column, part
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError, brief
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class FOLDER(SplitDataset):
    """Your own images: --root is the folder that holds split.json, which `prepare FOLDER` writes.

    From a folder a class (below train, val, test or not), or from a table with a path and a label an image and, if
    there is one, a group (patient) and a split.  Classes are numbered in alphabetical order.
    """

    dataset_dir, split, images = "", "split.json", "images"
    card = Card("", "", "your own images", citation="", group="column 'group' of your table")

    @classmethod
    def records(cls, tree: Tree, table: str = "", path: str = "", label: str = "", group: str = "") -> list[Record]:
        if table:
            return from_table(tree, table, path or "path", label or "label", group)
        for name, given in (("path", path), ("label", label), ("group", group)):
            if given:
                raise UserError(f"--{name} {given} names a column of a table: name the table by --table.")
        return from_folders(tree)


def from_folders(tree: Tree) -> list[Record]:
    records, alike = [], set()
    for member in tree.images:
        folders = member.split("/")[:-1]
        classes = [folder for folder in folders if not part(folder)]
        if classes:
            split = next(filter(None, map(part, folders)), "")
            records.append(Record(member, spelt(classes[-1]), split=split))
            alike.update(folder for folder in classes[:-1] if re.match("train|test|val", folder, re.I))
    if alike and not any(record.split for record in records):
        print(f"Folders {brief(sorted(alike))} are not read as a published split: call them train, val and test")
    return records


def from_table(tree: Tree, table: str, path: str, label: str, group: str) -> list[Record]:
    """group: "" = the column 'group' if there is one.  A column 'split' is the published split."""
    found = place_of(tree, table)
    rows = tree.table(found)
    if not rows:
        raise UserError(f"{found} has no rows below its header.")
    has = {name.lower() for name in rows[0]}
    files = [column(row, path).replace("\\", "/").removeprefix("./") for row in rows]
    labels = [spelt(column(row, label)) for row in rows]
    groups = [column(row, group or "group") if group or "group" in has else "" for row in rows]
    divided = [column(row, "split") if "split" in has else "" for row in rows]
    for name, values in ((path, files), (label, labels)):
        blank = [f"row {i}" for i, value in enumerate(values, 2) if not value]
        if blank:
            some = [file for file, value in zip(files, values, strict=True) if not value and file] or blank
            raise UserError(
                f"The column {name} of {found} is empty in {len(blank)} of {len(rows)} rows ({brief(some, 3)}): "
                "fill it in, or take these rows out."
            )
    names = Names(tree)
    members = names.along(files)
    if names.absent:
        raise UserError(names.missing(found))
    by_member: dict[str, str] = {}
    for member, file in zip(members, files, strict=True):
        if by_member.setdefault(member, file) != file:
            raise UserError(f"{found} names {member} twice, as {by_member[member]} and as {file}: which is it?")
    return [
        Record(member, label, group, part(split) or split)
        for member, label, group, split in zip(members, labels, groups, divided, strict=True)
    ]


def place_of(tree: Tree, table: str) -> str:
    """The member that --table names: a path, or the end of one, in the download."""
    end = table.replace("\\", "/").removeprefix("./")
    if Path(table).is_absolute() and tree.source.is_dir() and Path(table).is_relative_to(tree.source.absolute()):
        end = Path(table).relative_to(tree.source.absolute()).as_posix()
    fits = [end] if end in tree.places else [member for member in tree.places if f"/{member}".endswith(f"/{end}")]
    if not fits:
        raise UserError(f"No table {table} in {tree.source}.")
    if len(fits) > 1:
        raise UserError(f"{tree.source} has {len(fits)} tables {table} ({brief(fits, 3)}): name one with its folder.")
    return fits[0]


def spelt(name: str) -> str:
    """A class name out of a folder or a cell: one spelling of composed letters, blanks for underscores."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())
