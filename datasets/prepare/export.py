"""Images of a download to their place below the root: linked where they lie unpacked, else written out."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from PIL import Image

from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.files import replacing


def targets(records: list[Record]) -> list[str]:
    """<class>/<file name> below the image folder; two files of one name are told apart by the folders above them.

    With underscores for blanks in the class, as BiomedCoOp names its folders, so that its own split files fit.
    """
    folders = ["".join(c if c.isalnum() or c in "-._()," else "_" for c in record.classname) for record in records]
    names = [f"{folder}/{record.filename}" for folder, record in zip(folders, records, strict=True)]
    for depth in (2, 3, 4, 5):
        often = Counter(name.lower() for name in names)
        if max(often.values()) == 1:
            break
        for i, name in enumerate(names):
            if often[name.lower()] > 1:
                names[i] = f"{folders[i]}/{'_'.join(records[i].member.split('/')[-depth:])}"
    return names


def export(tree: Tree, records: list[Record], names: list[str], folder: Path, copy: bool = False) -> int:
    """Write what is not there yet, each file whole or not at all; the number of files written."""
    from tqdm import tqdm

    written = 0
    for record, name in tqdm(list(zip(records, names, strict=True)), "Images", unit="image", disable=None):
        target = folder / name
        if target.exists():  # written whole by an earlier run
            continue
        with replacing(target, mend="check --root") as partial:
            place(tree, record.member, partial, copy)
        written += 1
    return written


def place(tree: Tree, member: str, target: Path, copy: bool) -> None:
    if ".npz/" in member:
        stack, index = member.rsplit("/", 1)
        archive, array = stack.rsplit("/", 1)
        Image.fromarray(tree.stack(archive, array)[int(index)]).save(target, "PNG")
        return
    path = tree.path(member)
    if path is not None and not copy:
        os.symlink(path.resolve(), target)
        return
    with tree.open(member) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)


def in_place(tree: Tree, records: list[Record], folder: Path) -> bool:
    """Does the download lie, unpacked, where the images belong?"""
    return tree.source.resolve() == folder.resolve() and all(tree.path(record.member) for record in records)
