from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import SPLITS, Record, column
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
    def records(
        cls, tree: Tree, table: str = "", path: str = "path", label: str = "label", group: str = "group"
    ) -> list[Record]:
        return from_table(tree, table, path, label, group) if table else from_folders(tree)


def from_folders(tree: Tree) -> list[Record]:
    records = []
    for member in tree.images:
        folders = [f for f in member.split("/")[:-1] if f.lower() not in SPLITS]
        split = next((SPLITS[f.lower()] for f in member.split("/")[:-1] if f.lower() in SPLITS), "")
        if folders:
            records.append(Record(member, folders[-1].replace("_", " "), split=split))
    return records


def from_table(tree: Tree, table: str, path: str, label: str, group: str) -> list[Record]:
    found = tree.find(table.rsplit("/", 1)[-1])
    if found is None:
        raise UserError(f"No table {table} in {tree.source}.")
    ends = {}  # every tail of a path, so that a table may name files from any folder up
    for member in tree.images:
        parts = member.split("/")
        for i in range(len(parts)):
            ends.setdefault("/".join(parts[i:]), member)
    records, absent = [], []
    for row in tree.table(found):
        file = column(row, path).replace("\\", "/").removeprefix("./")
        member = ends.get(file) or ends.get(file.rsplit("/", 1)[-1])
        if member is None:
            absent.append(file)
            continue
        split = SPLITS.get(row.get("split", "").lower(), "")
        records.append(Record(member, column(row, label).replace("_", " "), row.get(group, ""), split))
    if absent:
        raise UserError(f"{len(absent)} images of {found} are not in {tree.source}: {brief(absent, 3)}.")
    return records
