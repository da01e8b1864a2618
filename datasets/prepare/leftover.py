"""What of a download was not taken, by kind and folder: nothing is left out unsaid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import brief

KINDS = 12  # lines at most


def lines(tree: Tree, taken: Iterable[str], own: Iterable[str] = ()) -> list[str]:
    """'Left out: 12 .svs in slides, ...'.  taken: members; own: files of earlier runs, which are not the download's."""
    used = {*taken, *tree.consulted, *own}
    kinds = {kind: list(names) for kind, names in tree.odd.items()}
    for member in tree.places:
        if member not in used:
            kinds.setdefault(extension(member), []).append(member)
    found = []
    for kind, members in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        folders = defaultdict(int)
        for member in members:
            folders[member.rstrip("/").rpartition("/")[0] or "."] += 1
        found.append(f"Left out: {len(members)} {kind} in {brief(list(folders), 3)}")
    if len(found) > KINDS:
        found[KINDS - 1 :] = [f"Left out: {len(found) - KINDS + 1} more kinds of files"]
    without = empty(tree, used)
    if without:
        found.append(f"No image was taken from: {brief(without, 8)}")
    return found


def extension(member: str) -> str:
    name = member.rsplit("/", 1)[-1]
    _, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and last.isalnum() and not last.isdigit() else "without extension"


def empty(tree: Tree, used: set[str]) -> list[str]:
    """Folders with files of which none, in them or below, is of use."""
    all_, some = (
        {member[:i] for member in members for i, c in enumerate(member) if c == "/"} for members in (tree.places, used)
    )
    return sorted(folder for folder in all_ - some if folder.rpartition("/")[0] not in all_ - some)
