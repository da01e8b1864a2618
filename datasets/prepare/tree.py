"""A download as one list of files, whether it is unpacked, a zip, zips inside zips or a folder with all of these.

A member's name is its path with /; a zip reads as a folder of its name.  Nothing is unpacked in the source.  A folder
that is reached twice, by a link, is read once, under its own name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cilmp.datasets.prepare import archives, arrays, tables
from cilmp.datasets.prepare.arrays import Stack
from cilmp.dicom import is_dicom
from cilmp.errors import UserError
from cilmp.images import EXTENSIONS


class Tree:
    def __init__(self, source: str | Path, encoding: str = ""):
        """encoding: of its tables, where they are not UTF-8."""
        self.source, self.encoding = Path(source).expanduser(), encoding
        self.places: dict[str, Path | tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        self.odd: dict[str, list[str]] = {}  # kind -> what is there and is no file to read
        self.consulted: set[str] = set()  # members read for what they say of others
        self.stacks: dict[str, Stack] = {}
        if self.source.is_dir():
            self.walk(self.source)
        elif not self.source.is_file():
            raise UserError(f"No download at {self.source}: check --source.")
        elif self.source.suffix.lower() == ".npz":
            self.places[self.source.name] = self.source
        elif self.source.suffix.lower() == ".zip" or zipfile.is_zipfile(self.source):
            self.look_into(archives.opened(self.source, str(self.source)), "", str(self.source))
        else:
            raise UserError(f"{self.source} is not a folder, a zip or an .npz: unpack it and name the folder.")

    def walk(self, top: Path) -> None:
        """Folders in alphabetical order; what links lead to comes last, so that it is read under its own name."""
        seen, folders, links = set(), [("", str(top))], []
        while folders or links:
            prefix, folder = folders.pop() if folders else links.pop(0)
            real = os.path.realpath(folder)
            if real in seen:
                self.odd.setdefault("link to a folder that is read under its own name", []).append(prefix)
                continue
            seen.add(real)
            inside = []
            for entry in self.listed(folder):
                name, kind = f"{prefix}{entry.name}", kind_of(entry)
                if kind == "folder":
                    (links if entry.is_symlink() else inside).append((f"{name}/", entry.path))
                elif kind == "file":
                    self.take(Path(entry.path), name)
                else:
                    self.odd.setdefault(kind, []).append(name)
            folders += reversed(inside)

    def listed(self, folder: str) -> list[os.DirEntry]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"Cannot list {folder} ({error.strerror}): check --source.") from None

    def take(self, path: Path, name: str) -> None:
        if path.suffix.lower() != ".zip":
            self.places[name] = path
        elif not path.with_suffix("").is_dir():  # else it lies unpacked beside
            self.look_into(archives.opened(path, str(path)), f"{name}/", str(path))

    def look_into(self, archive: zipfile.ZipFile, prefix: str, told: str) -> None:
        for name, info in archives.entries(archive, told):
            if "__MACOSX" in name or any(part.startswith(".") for part in name.split("/")):
                self.odd.setdefault("hidden", []).append(prefix + name)
            elif name.lower().endswith(".zip"):
                inner = tempfile.TemporaryFile()  # a zip inside a compressed zip cannot be searched in place
                with archives.telling(f"{told}: {name}"), archive.open(info) as packed:
                    shutil.copyfileobj(packed, inner)
                self.look_into(archives.opened(inner, f"{told}: {name}"), f"{prefix}{name}/", f"{told}: {name}")
            else:
                self.places[prefix + name] = (archive, info)

    @cached_property
    def images(self) -> list[str]:
        """By their extension; without one, as scanners export them, DICOM files by their mark."""
        return [name for name in self.places if name.lower().endswith(EXTENSIONS) or self.is_bare_dicom(name)]

    def is_bare_dicom(self, member: str) -> bool:
        name = member.rsplit("/", 1)[-1]
        if re.search(r"\.[A-Za-z]\w{0,9}$", name) or name.upper() == "DICOMDIR":
            return False
        with self.open(member) as file:
            return is_dicom(file)

    @contextmanager
    def open(self, member: str) -> Iterator[BinaryIO]:
        with archives.telling(f"{self.source}: {member}"), self.file(member) as file:
            yield file

    def file(self, member: str) -> BinaryIO:
        place = self.places[member]
        return open(place, "rb") if isinstance(place, Path) else place[0].open(place[1])

    def content(self, member: str) -> bytes:
        with self.open(member) as file:
            return file.read()

    def size(self, member: str) -> int:
        """In bytes, unpacked."""
        place = self.places[member]
        return place.stat().st_size if isinstance(place, Path) else place[1].file_size

    def digest(self, member: str) -> bytes:
        with self.open(member) as file:
            return sha1(file)

    def path(self, member: str) -> Path | None:
        """The file itself, where it lies unpacked."""
        place = self.places.get(member)
        return place if isinstance(place, Path) else None

    def find(self, *patterns: str) -> str | None:
        """The first member whose file name fits a pattern, case ignored; the shortest path of several."""
        for pattern in patterns:
            fits = [name for name in self.places if fnmatch(name.rsplit("/", 1)[-1].lower(), pattern.lower())]
            if fits:
                return min(fits, key=lambda name: (name.count("/"), name))
        return None

    def need(self, *patterns: str) -> str:
        member = self.find(*patterns)
        if member is None:
            raise UserError(f"No {' or '.join(patterns)} in {self.source}: is this the original download?")
        return member

    def json(self, member: str) -> object:
        self.consulted.add(member)
        try:
            return json.loads(self.content(member))
        except ValueError as error:
            raise UserError(f"{self.source}: {member} is not JSON ({error}).") from None

    def table(self, member: str) -> list[dict[str, str]]:
        """Rows of a CSV or of an XLSX's first sheet."""
        self.consulted.add(member)
        return tables.rows(self.content(member), member, self.encoding)

    def array(self, member: str, name: str) -> np.ndarray:
        """A small array of an .npz, whole."""
        self.consulted.add(member)
        with self.open(member) as file:
            return arrays.whole(file if file.seekable() else io.BytesIO(file.read()), member, name)

    def stack(self, member: str, name: str) -> Stack:
        """A large array of an .npz, an image at a time."""
        if f"{member}/{name}" not in self.stacks:
            self.stacks[f"{member}/{name}"] = Stack(lambda: self.file(member), member, name)
        return self.stacks[f"{member}/{name}"]


def kind_of(entry: os.DirEntry) -> str:
    if entry.name.startswith(".") or entry.name == "__MACOSX":
        return "hidden"
    try:
        if entry.is_dir() or entry.is_file():
            return "folder" if entry.is_dir() else "file"
    except OSError:  # a link to itself
        pass
    return "link that leads nowhere" if entry.is_symlink() else "FIFO, socket or device"


def sha1(file: BinaryIO) -> bytes:
    total = hashlib.sha1()
    while block := file.read(1 << 20):
        total.update(block)
    return total.digest()
