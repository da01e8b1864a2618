"""`prepare`: the recipe of a data set, its split, its images and its split file, in this order."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tabulate import tabulate

from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare import copies, divide, export, leftover, origin
from cilmp.datasets.prepare.fingerprints import fingerprints, near_pairs
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError, brief
from cilmp.images import THREADS, damage, problem

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
    records, notes = recorded(dataset, tree, options or {})
    how = how or division_of(records)
    if ratio and how != "grouped":
        raise UserError(f"--ratio is of a grouped split, and this one is {how}: leave it out, or add --split grouped.")
    classnames = classes(dataset, records)
    folder = Path(root).expanduser() / dataset.dataset_dir
    split_file = folder / dataset.split
    in_place = export.in_place(tree, records, folder)
    own = [path.name for path in (split_file, splits.groups_file(split_file), origin.note_file(split_file))]
    notes += leftover.lines(tree, [record.member for record in records], own if in_place else ())
    notes += unreadable(tree, records)
    for note in notes:
        print(note)
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


def recorded(dataset: type[SplitDataset], tree: Tree, options: dict) -> tuple[list[Record], list[str]]:
    """What the recipe finds, each image once, with its group; and what is to be said of it."""
    try:
        records = once(dataset.records(tree, **options))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"The tables in {tree.source} do not read as those of {dataset.__name__} ({type(error).__name__}: {error})"
            ": is this the original download?"
        ) from None
    if not records:
        left = "; ".join(leftover.lines(tree, ()))
        raise UserError(
            f"No images of {dataset.__name__} in {tree.source}: is this the original download? {left or 'It is empty'}."
        )
    if tree.encoding and not tree.consulted:
        raise UserError(f"--encoding {tree.encoding} is of a table, and none was read: leave it out.")
    for record in records:
        record.group = record.group or dataset.group_of(record.member)
    same = copies.identical(tree, records)
    kept, notes = copies.without_second_trees(records, same)
    notes += copies.told(kept, same)
    tree.consulted |= {record.member for record in records}  # a second copy is told already
    without = [record.member for record in kept if not record.group]
    if len(without) < len(kept) and without:
        notes.append(
            f"{len(without)} of {len(kept)} images have no group ({brief(without, 3)}): each is one of its own"
        )
    return kept, notes


def once(records: list[Record]) -> list[Record]:
    """Without repeated rows of a table; UserError where they disagree."""
    seen: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.member, record)
        for what in ("classname", "group", "split"):
            one, other = getattr(first, what), getattr(record, what)
            if one != other:
                raise UserError(f"{record.member} is named with the {what.removesuffix('name')} '{one}' and '{other}'.")
    return list(seen.values())


def division_of(records: list[Record]) -> str:
    """The published split where there is one.  UserError where only some images have a place in it."""
    without = [record.member for record in records if not record.split]
    if without and len(without) < len(records):
        raise UserError(
            f"{len(without)} of {len(records)} images have no place in the published split of the others "
            f"({brief(without, 3)}): give them one, take them out, or let all be drawn anew by --split grouped."
        )
    return "grouped" if without else "official"


def classes(dataset: type[SplitDataset], records: list[Record]) -> list[str]:
    """Class names in label order.  UserError for one class, one of two spellings, and one that is not declared."""
    found = sorted({record.classname for record in records})
    strange = [name for name in found if dataset.classnames and name not in dataset.classnames]
    if strange:
        raise UserError(f"{dataset.__name__} has no class {brief(strange)}: is this the original download?")
    spellings: dict[str, str] = {}
    for name in found:
        if (other := spellings.setdefault(plain_name(name), name)) != name:
            raise UserError(f"The classes '{other}' and '{name}' differ in their spelling alone: rename one.")
    if len(found) < 2:
        raise UserError(
            f"All {len(records)} images are of one class, '{found[0]}', where every guess is right: lay each class "
            "in a folder of its own, or name them in a table."
        )
    return list(dataset.classnames) or found


def plain_name(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").split())


def unreadable(tree: Tree, records: list[Record]) -> list[str]:
    """A line that counts and names images which cannot be read.  UserError where none can."""
    members = [record.member for record in records if record.member in tree.places]
    with ThreadPoolExecutor(THREADS) as pool:
        problems = [(m, why) for m, why in zip(members, pool.map(partial(fault, tree), members), strict=True) if why]
    if not problems:
        return []
    some = brief([f"{member} ({why})" for member, why in problems], 3)
    if len(problems) == len(members):
        raise UserError(f"None of the {len(members)} images of {tree.source} can be read: {some}. Fetch them again.")
    return [
        f"{len(problems)} of {len(members)} images cannot be read: {some}. They are in the split, and a run refuses "
        "them: fetch them again, or take them out of the download"
    ]


def fault(tree: Tree, member: str) -> str:
    path = tree.path(member)
    return problem(str(path)) if path else damage(io.BytesIO(tree.content(member)))


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
    splits.classnames(split, path)  # what `check` and every run would refuse is not written
    splits.write_groups(path, rows)
    return splits.write(path, split)


def summary(records: list[Record], division: list[str], classnames: list[str]) -> str:
    counts = Counter((record.classname, part) for record, part in zip(records, division, strict=True))
    rows = [(name, *(counts[name, part] for part in splits.NAMES)) for name in classnames]
    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    return tabulate(rows, headers=("class", *splits.NAMES))
