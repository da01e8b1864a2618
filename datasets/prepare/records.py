"""The building blocks of a recipe: what a download says of its images."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"test": "test", "testing": "test"}


@dataclass
class Record:
    member: str  # in the tree; for an .npz "<file>.npz/<array>/<index>"
    classname: str
    group: str = ""  # what must stay in one split: a patient, a lesion, a slide; "" = not known
    split: str = ""  # the published one; "" = none
    name: str = ""  # file name to give it; "" = its own

    @property
    def filename(self) -> str:
        return self.name or self.member.rsplit("/", 1)[-1]


def plain(text: str) -> str:
    """'01_TUMOR', 'Viral Pneumonia' -> letters and digits in lower case, to compare names."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def by_folder(
    tree: Tree,
    classes: dict[str, str],
    skip: str = "",
    within: str = "",
    official: bool = False,
    classify: Callable[[str, str], str] | None = None,
) -> list[Record]:
    """Class per folder: the innermost folder named in `classes` gives the class.

    `skip` and `within` are patterns of the path; `official`: a folder train, val or test above gives the split;
    `classify(class name, file name)` refines the class.
    """
    named = {plain(folder): classname for folder, classname in classes.items()}
    records = []
    for member in tree.images:
        *folders, file = member.split("/")
        if (skip and re.search(skip, member, re.I)) or (within and not re.search(within, member, re.I)):
            continue
        classname = next((named[plain(f)] for f in reversed(folders) if plain(f) in named), "")
        if not classname:
            continue
        if classify:
            classname = classify(classname, file)
        split = next((SPLITS[f.lower()] for f in reversed(folders) if f.lower() in SPLITS), "") if official else ""
        records.append(Record(member, classname, split=split))
    found = {record.classname for record in records}
    for folder, classname in classes.items():
        if classname not in found and not classify:
            raise UserError(f"No images of a class folder '{folder}' in {tree.source}: is this the original download?")
    return records


def by_npz(tree: Tree, flag: str, classnames: tuple[str, ...], size: int = 0) -> list[Record]:
    """A MedMNIST file of any size; its largest where there are several and no size is given."""
    found = [m for m in tree.places if re.fullmatch(rf"{flag}(_\d+)?\.npz", m.rsplit("/", 1)[-1])]
    sized = {int((re.search(r"_(\d+)\.npz$", member) or [0, 28])[1]): member for member in found}
    if not sized or (size and size not in sized):
        wanted = f"{flag}_{size}.npz" if size and size != 28 else f"{flag}.npz"
        raise UserError(f"No {wanted} in {tree.source}: fetch it from zenodo.org/records/10519652.")
    member = sized[size or max(sized)]
    records = []
    for split in ("train", "val", "test"):
        for i, label in enumerate(tree.array(member, f"{split}_labels").reshape(-1)):
            name = f"{split}{i}_{label}.png"  # as MedMNIST itself saves them, and BiomedCoOp's split files name them
            records.append(Record(f"{member}/{split}_images/{i}", classnames[label], split=split, name=name))
    return records


def column(row: dict[str, str], *names: str) -> str:
    """A row's value under the first of these column names that it has, case ignored."""
    lower = {name.lower(): value for name, value in row.items()}
    for name in names:
        if name.lower() in lower:
            return lower[name.lower()]
    raise UserError(f"The table has no column {' or '.join(names)}; it has {', '.join(row)}.")
