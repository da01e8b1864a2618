"""`prepare`: the recipe of a data set, its split, its images and its split file, in this order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tabulate import tabulate

from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare import divide, export
from cilmp.datasets.prepare.fingerprints import fingerprints, near_pairs
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError

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
) -> Path:
    """The split file's path.  The source is only read; a run that was cut short goes on where it stopped."""
    tree = Tree(source)
    records = once(dataset.records(tree, **(options or {})))
    if not records:
        raise UserError(f"No images of {dataset.__name__} in {tree.source}: is this the original download?")
    for record in records:
        record.group = record.group or dataset.group_of(record.member)
    classnames = list(dataset.classnames) or sorted({record.classname for record in records})
    how = how or ("official" if all(record.split for record in records) else "grouped")
    if how not in ("official", "reference", "grouped"):
        raise UserError(f"--split {how} is not known: use official, reference or grouped.")
    folder = Path(root).expanduser() / dataset.dataset_dir
    if export.in_place(tree, records, folder):
        images, names = folder, [record.member for record in records]
    else:
        images, names = folder / dataset.images, export.targets(records)
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
    path = write(folder / dataset.split, classnames, records, names, division, groups)
    print(summary(records, division, classnames))
    left = division.count("")
    if left:
        print(f"{left} images are in no split, as in the reference")
    print(f"Split '{how}' written to {path}; python -m cilmp.datasets check {dataset.__name__} --root {root}")
    for fault in dataset.card.faults if dataset.card else ():
        print(f"Known: {fault}")
    return path


def once(records: list[Record]) -> list[Record]:
    """Without repeated rows of a table; UserError where they disagree."""
    seen: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.member, record)
        if first.classname != record.classname:
            raise UserError(f"{record.member} is named as '{first.classname}' and as '{record.classname}'.")
    return list(seen.values())


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
    splits.write_groups(path, rows)
    return splits.write(path, split)


def summary(records: list[Record], division: list[str], classnames: list[str]) -> str:
    counts = Counter((record.classname, part) for record, part in zip(records, division, strict=True))
    rows = [(name, *(counts[name, part] for part in splits.NAMES)) for name in classnames]
    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    return tabulate(rows, headers=("class", *splits.NAMES))
