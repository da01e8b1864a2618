"""Images of a download to their place below the root: linked where they lie unpacked, else written out."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

from PIL import Image

from cilmp.datasets import splits
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError
from cilmp.files import replacing


def targets(records: list[Record]) -> list[str]:
    """<class>/<file name> below the image folder; two files of one name are told apart by the folders above them.

    With underscores for blanks in the class, as BiomedCoOp names its folders, so that its own split files fit.
    """
    folders = [folder_of(record.classname) for record in records]
    names = [f"{folder}/{portable(record.filename)}" for folder, record in zip(folders, records, strict=True)]
    for depth in (2, 3, 4, 5):
        often = Counter(name.lower() for name in names)
        if max(often.values()) == 1:
            return names
        for i, name in enumerate(names):
            if often[name.lower()] > 1:
                names[i] = f"{folders[i]}/{portable('_'.join(records[i].member.split('/')[-depth:]))}"
    taken: Counter[str] = Counter()
    for i, name in enumerate(names):  # two classes may share a folder's name
        taken[name.lower()] += 1
        if taken[name.lower()] > 1:
            names[i] = f"{folders[i]}/{taken[name.lower()]}_{name.rpartition('/')[2]}"
    return names


def folder_of(classname: str) -> str:
    folder = "".join(c if c.isalnum() or c in "-._()," else "_" for c in classname)
    return folder if folder.strip(".") else "_" * max(1, len(folder))


def portable(file: str) -> str:
    """A file name without what some machine takes for a folder, a drive or a pattern."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", file)


def export(tree: Tree, records: list[Record], names: list[str], folder: Path, copy: bool = False) -> int:
    """Write what is not there yet, each file whole or not at all; the number of files written.

    Where the file system takes no links, files are copied, which is said once.
    """
    from tqdm import tqdm

    written = 0
    for record, name in tqdm(list(zip(records, names, strict=True)), "Images", unit="image", disable=None):
        if not splits.inside(name):
            raise UserError(f"{record.member} would be written to {name}, which is not below {folder}: rename it.")
        target = folder / name
        if target.exists():  # written whole by an earlier run
            continue
        with replacing(target, mend="check --root") as partial:
            if not put(tree, record.member, partial, copy):
                print(f"No links can be made in {folder}: images are copied")
                copy = True
                put(tree, record.member, partial, copy)
        written += 1
    return written


def put(tree: Tree, member: str, target: Path, copy: bool) -> bool:
    """False: it was to be linked, and cannot be."""
    path = tree.path(member)
    if ".npz/" in member:
        stack, index = member.rsplit("/", 1)
        archive, array = stack.rsplit("/", 1)
        Image.fromarray(tree.stack(archive, array)[int(index)]).save(target, "PNG")
    elif path is not None and not copy:
        try:
            os.symlink(path.resolve(), target)
        except (OSError, NotImplementedError):
            return False
    else:
        with tree.open(member) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)
    return True


def in_place(tree: Tree, records: list[Record], folder: Path) -> bool:
    """Does the download lie, unpacked, where the images belong?"""
    return tree.source.resolve() == folder.resolve() and all(tree.path(record.member) for record in records)
