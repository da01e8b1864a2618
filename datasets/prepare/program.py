"""`prepare`: the recipe of a data set, its split, its images and its split file, in this order."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from pathlib import Path

from tabulate import tabulate

from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare import divide, export, intake, leftover, origin
from cilmp.datasets.prepare.fingerprints import fingerprints, near_pairs
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError, brief

RATIO = (70, 10, 20)  # MedMNIST's, where a data set has no reference to follow


def prepare(
    dataset: type[SplitDataset],
    source: str,
    root: str,
    how: str = "",
    seed: int = 1,
    ratio: tuple[int, int, int] | None = None,
    copy: bool = False,
    options: dict | None = None,
    encoding: str = "",
) -> Path:
    """The split file's path.  The source is only read; a run that was cut short goes on where it stopped."""
    if how not in ("", "official", "reference", "grouped"):
        raise UserError(f"--split {how} is not known: use official, reference or grouped.")
    tree = Tree(source, encoding)
    records, notes = intake.recorded(dataset, tree, options or {})
    how = how or intake.division_of(records)
    if ratio and how != "grouped":
        raise UserError(f"--ratio is of a grouped split, and this one is {how}: leave it out, or add --split grouped.")
    classnames = intake.classes(dataset, records)
    folder = Path(root).expanduser() / dataset.dataset_dir
    split_file = folder / dataset.split
    in_place = export.in_place(tree, records, folder)
    own = [path.name for path in (split_file, splits.groups_file(split_file), origin.note_file(split_file))]
    notes += leftover.lines(tree, [record.member for record in records], own if in_place else ())
    notes += intake.unreadable(tree, records)
    print("\n".join([intake.kinds(records), *notes]))
    if in_place:
        images, names = folder, [record.member for record in records]
    else:
        images, names = folder / dataset.images, export.targets(records)
        origin.require_equal(tree, records, names, images, split_file)
        origin.note(tree, records, split_file)
        written = export.export(tree, records, names, images, copy)
        print(f"{written} images written to {images}, {len(records) - written} were there")
    groups = None
    if how == "grouped":
        groups = together(records, [images / name for name in names], dataset.similar)
        division = divide.grouped([record.classname for record in records], groups, ratio or own_ratio(dataset), seed)
    elif how == "reference":
        division = divide.reference(records, reference_counts(dataset, records), seed, dataset.reference_pool)
    else:
        division = divide.official(records)
    if torn := straddling(records, division):
        print(f"{len(torn)} groups lie in two splits or more: {brief(torn, 3)}")
    path = write(split_file, classnames, records, names, division, groups)
    print(summary(records, division, classnames))
    left = division.count("")
    if left:
        print(f"{left} images are in no split, as in the reference")
    check = shlex.join(["python", "-m", "cilmp.datasets", "check", dataset.__name__, "--root", str(root)])
    print(f"Split '{how}' written to {path}; {check}")
    for fault in dataset.card.faults if dataset.card else ():
        print(f"Known: {fault}")
    return path


def reference_counts(dataset: type[SplitDataset], records: list[Record]) -> divide.Counts:
    counts = dataset.reference
    if not counts:
        raise UserError(f"No reference states counts for {dataset.__name__}: use --split official or grouped.")
    return divide.proportional(records, counts) if isinstance(counts, tuple) else counts


def own_ratio(dataset: type[SplitDataset]) -> tuple[int, int, int]:
    """The reference's proportions."""
    counts = dataset.reference
    if isinstance(counts, dict):
        return tuple(sum(row[i] for row in counts.values()) for i in range(3))
    return counts or RATIO


def together(records: list[Record], paths: list[Path], similar: bool) -> list[int]:
    """Group numbers: a patient or lesion, joined by identical images; similar images where nobody is identified."""
    prints = fingerprints([str(path) for path in paths], "Looking for duplicates")
    ties = [divide.alike(record.group for record in records), divide.alike(p.pixels.hex() for p in prints)]
    if similar or not any(record.group for record in records):
        ties.append([(i, j) for i, j, _ in near_pairs(prints)])
    groups = divide.merged(len(records), *ties)
    sizes = Counter(groups).values()
    print(f"{len(sizes)} groups of images, the largest of {max(sizes)}")
    return groups


def straddling(records: list[Record], division: list[str]) -> list[str]:
    """Groups, such as patients, that a published or reference split divides."""
    places = defaultdict(set)
    for record, name in zip(records, division, strict=True):
        if record.group and name:
            places[record.group].add(name)
    return sorted(group for group, names in places.items() if len(names) > 1)


def write(
    path: Path,
    order: list[str],
    records: list[Record],
    names: list[str],
    division: list[str],
    groups: list[int] | None,
) -> Path:
    split: splits.Split = {name: [] for name in splits.NAMES}
    rows = []
    for i, (record, name, part) in enumerate(zip(records, names, division, strict=True)):
        if part:
            split[part].append(splits.Item(name, order.index(record.classname), record.classname))
            if record.group or groups:
                rows.append((name, f"#{groups[i]}" if groups else record.group))
    if not split["train"] or not split["test"]:
        raise UserError(f"The split leaves {', '.join(n for n in ('train', 'test') if not split[n])} empty.")
    splits.classnames(split, path)  # what `check` and every run would refuse is not written
    splits.write_groups(path, rows)
    return splits.write(path, split)


def summary(records: list[Record], division: list[str], classnames: list[str]) -> str:
    counts = Counter((record.classname, part) for record, part in zip(records, division, strict=True))
    rows = [(name, *(counts[name, part] for part in splits.NAMES)) for name in classnames]
    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    return tabulate(rows, headers=("class", *splits.NAMES))
