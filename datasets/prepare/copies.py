"""The same image twice in a download: a second copy of a whole folder is left out, other copies are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree


def identical(tree: Tree, records: list[Record]) -> list[list[Record]]:
    """Records whose files hold the same bytes; only files of equal size are read."""
    sized, same = defaultdict(list), defaultdict(list)
    for record in records:
        if record.member in tree.places:  # not an image of an array
            sized[tree.size(record.member)].append(record)
    for size, some in sized.items():
        for record in some if len(some) > 1 else ():
            same[size, tree.digest(record.member)].append(record)
    return [some for some in same.values() if len(some) > 1]


def without_second_trees(records: list[Record], same: list[list[Record]]) -> tuple[list[Record], list[str]]:
    """Records without those of folders that repeat another file by file, and a line for each such folder.

    A folder repeats another if every image taken from below it has its twin, of equal bytes, class, group and split, at
    the same path below the other.
    """
    twins = {record.member: number for number, some in enumerate(same) for record in some}
    by_member = {record.member: record for record in records}
    below = defaultdict(list)
    for member in twins.keys() | by_member.keys():
        folders = member.split("/")[:-1]
        for i in range(1, len(folders) + 1):
            below["/".join(folders[:i])].append(member)

    def repeats(second: str, first: str) -> bool:
        for member in below[second]:
            twin = first + ("/" if first else "") + member[len(second) + 1 :]
            if twin not in by_member or member not in twins or twins.get(twin) != twins[member]:
                return False
            a, b = by_member[member], by_member[twin]
            if (a.classname, a.group, a.split) != (b.classname, b.group, b.split):
                return False
        return True

    gone, lines = set(), []
    for second, first in sorted(set(pairs(same)), key=lambda pair: (pair[0].count("/"), pair)):
        members = set(below[second]) - gone
        if members and repeats(second, first):
            gone |= members
            lines.append(f"{second} repeats {first or 'the rest'}: its {len(members)} images are taken once, not twice")
    return [record for record in records if record.member not in gone], lines


def pairs(same: list[list[Record]]) -> Iterator[tuple[str, str]]:
    """(folder, folder) below which one path leads to the same bytes; the deeper, then the later one first."""
    for some in same:
        members = sorted((record.member for record in some), key=lambda member: (member.count("/"), member))
        for later, member in enumerate(members):
            for other in members[:later]:
                a, b = member.split("/"), other.split("/")
                shared = 1
                while shared <= min(len(a), len(b)) and a[-shared] == b[-shared]:
                    if shared < len(a):
                        yield "/".join(a[:-shared]), "/".join(b[:-shared])
                    shared += 1


def told(records: list[Record], same: list[list[Record]]) -> list[str]:
    """What is left of copies among the records, in a line or two."""
    kept = {record.member for record in records}
    left = [[record for record in some if record.member in kept] for some in same]
    left = [some for some in left if len(some) > 1]
    if not left:
        return []
    first = " = ".join(record.member for record in left[0][:2])
    lines = [f"{sum(map(len, left)) - len(left)} images are identical copies of others ({first}): all are taken"]
    torn = [some for some in left if len({record.classname for record in some}) > 1]
    if torn:
        names = " = ".join(f"{record.member} ({record.classname})" for record in torn[0][:2])
        lines.append(f"{len(torn)} identical images are of two classes, such as {names}")
    return lines
