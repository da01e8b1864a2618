"""What a download gives, and what is to be said of it, before anything is written."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare import copies, leftover
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError, brief
from cilmp.images import THREADS, damage, problem


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
        if (other := spellings.setdefault(name.casefold(), name)) != name:
            raise UserError(f"The classes '{other}' and '{name}' differ in their spelling alone: rename one.")
    if len(found) < 2:
        raise UserError(
            f"All {len(records)} images are of one class, '{found[0]}', where every guess is right: lay each class "
            "in a folder of its own, or name them in a table."
        )
    return list(dataset.classnames) or found


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


def kinds(records: list[Record]) -> str:
    """'24 images: 12 .png, 12 .gif'."""
    counts = Counter("out of an array" if ".npz/" in r.member else leftover.extension(r.member) for r in records)
    return f"{len(records)} images: {', '.join(f'{n} {kind}' for kind, n in counts.most_common())}"
