"""The building blocks of a recipe: what a download says of its images."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
AROUND = {"set", "data", "dataset", "image", "images", "img", "imgs", "zip"}  # "train_set", "test images", "val.zip"


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


def letters(text: str) -> str:
    """'01_TUMOR', 'Viral Pneumonia' -> letters and digits in lower case, to compare names."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def part(name: str) -> str:
    """'train', 'val' or 'test' if a folder or a table's value says so, else ''."""
    words = [word for word in re.findall("[a-z]+", name.lower()) if word not in AROUND]
    return SPLITS.get(words[0], "") if len(words) == 1 else ""


def numbered(classnames: Sequence[str], label: object) -> str:
    """The class name of a label that counts from 0.  UserError for any other label."""
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(classnames):
        raise UserError(f"A label of the download is {label}, not 0 to {len(classnames) - 1}: is this the original?")
    return classnames[number]


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
    named = {letters(folder): classname for folder, classname in classes.items()}
    records = []
    for member in tree.images:
        *folders, file = member.split("/")
        if (skip and re.search(skip, member, re.I)) or (within and not re.search(within, member, re.I)):
            continue
        classname = next((named[letters(f)] for f in reversed(folders) if letters(f) in named), "")
        if not classname:
            continue
        if classify:
            classname = classify(classname, file)
        split = next(filter(None, map(part, reversed(folders))), "") if official else ""
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
    tree.consulted.add(member)
    records = []
    for split in ("train", "val", "test"):
        labels, images = tree.array(member, f"{split}_labels"), tree.stack(member, f"{split}_images")
        if labels.size != len(images):
            raise UserError(f"{member} has {len(images)} {split} images and {labels.size} labels, not one an image.")
        for i, label in enumerate(labels.reshape(-1)):
            name = f"{split}{i}_{label}.png"  # as MedMNIST itself saves them, and BiomedCoOp's split files name them
            records.append(Record(f"{member}/{split}_images/{i}", numbered(classnames, label), split=split, name=name))
    return records


def column(row: dict[str, str], *names: str) -> str:
    """A row's value under the first of these column names that it has, case ignored unless two differ in it alone."""
    for name in names:
        alike = [name] if name in row else [key for key in row if key.lower() == name.lower()]
        if len(alike) == 1:
            return row[alike[0]]
    raise UserError(f"The table has no column {' or '.join(names)}; it has {', '.join(row)}.")
