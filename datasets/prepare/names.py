"""Which image a table means by a path, a file name or an id; never one that it may not mean."""

from __future__ import annotations

from collections import defaultdict

from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError, brief


class Names:
    """Images by every end of their path, with extension and without, case ignored.

    prefer: of several images of one name, those with this in their path.
    """

    def __init__(self, tree: Tree, prefer: str = ""):
        self.tree, self.prefer = tree, prefer
        self.ends: dict[str, list[str]] = defaultdict(list)
        for member in tree.images:
            parts = member.casefold().split("/")
            for i in range(len(parts)):
                end = "/".join(parts[i:])
                for name in {end, stem(end)}:
                    self.ends[name].append(member)
        self.absent: list[str] = []

    def find(self, name: str) -> str | None:
        """The image of this name; None, and noted as absent, where there is none.  UserError where several fit."""
        found = self.fitting(name)
        if not found:
            self.absent.append(name)
        return found

    def fitting(self, name: str) -> str | None:
        fits = self.ends.get(name.casefold(), [])
        if name in fits:
            return name
        fits = [member for member in fits if self.prefer in member] or fits
        if len(fits) > 1:
            fits = [member for member in fits if f"/{member}".endswith(f"/{name}")] or fits  # the case as written
        if len(fits) > 1 and any(len(set(map(what, fits))) > 1 for what in (self.tree.size, self.tree.digest)):
            raise UserError(
                f"'{name}' fits {len(fits)} different images of {self.tree.source} ({brief(fits, 3)}): name them with "
                "their folders, or a --source with one of them."
            )
        return min(fits, key=lambda member: (member.count("/"), member), default=None)

    def along(self, names: list[str]) -> list[str | None]:
        """The images of a table's paths, which may begin with folders that the download has not.

        As few of the leading folders as any path needs are left off, of all alike: a file that is missing below one
        folder is not looked for below another.
        """
        found: list[str | None] = []
        for drop in range(max((name.count("/") for name in names), default=0) + 1):
            found = [self.fitting("/".join(name.split("/")[min(drop, name.count("/")) :])) for name in names]
            if any(found):
                break
        self.absent += [name for name, member in zip(names, found, strict=True) if member is None]
        return found

    def missing(self, table: str) -> str:
        """The absent ones in a line, '' if there are none."""
        if not self.absent:
            return ""
        line = f"{len(self.absent)} images of {table} are not in {self.tree.source}: {brief(self.absent, 3)}"
        other = [name for name in self.absent if stem(name) != name and self.ends.get(stem(name).casefold())]
        if other:
            there = self.ends[stem(other[0]).casefold()][0]
            line += f"; the extension differs in {len(other)} of them ({other[0]} is {there})"
        return f"{line}."

    def tell(self, table: str) -> None:
        """Of an original download, which may lack a part: said, not refused."""
        if self.absent:
            print(self.missing(table))


def stem(name: str) -> str:
    """Without the extension of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rsplit(".", 1)[0] if "." in file[1:] else file)
