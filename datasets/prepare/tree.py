"""A download as one list of files, whether it is unpacked, a zip, zips inside zips or a folder with all of these.

A member's name is its path with /; a zip reads as a folder of its name.  Nothing is unpacked in the source.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cilmp.errors import UserError
from cilmp.images import EXTENSIONS


class Tree:
    def __init__(self, source: str | Path):
        self.source = Path(source).expanduser()
        if not self.source.exists():
            raise UserError(f"No download at {self.source}: check --source.")
        self.places: dict[str, Path | tuple[zipfile.ZipFile, str]] = {}
        self.stacks: dict[str, Stack] = {}
        if self.source.is_dir():
            self.walk(self.source)
        elif zipfile.is_zipfile(self.source) and self.source.suffix != ".npz":
            self.look_into(zipfile.ZipFile(self.source), "")
        else:
            self.places[self.source.name] = self.source

    def walk(self, folder: Path) -> None:
        for where, folders, files in os.walk(folder, followlinks=True):
            folders.sort()
            for file in sorted(files):
                path = Path(where, file)
                name = path.relative_to(folder).as_posix()
                if path.suffix.lower() == ".zip" and path.with_suffix("").is_dir():
                    continue  # unpacked beside
                if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
                    self.look_into(zipfile.ZipFile(path), f"{name}/")
                elif not file.startswith("."):
                    self.places[name] = path

    def look_into(self, archive: zipfile.ZipFile, prefix: str) -> None:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            name = info.filename
            if info.is_dir() or "__MACOSX" in name or name.rsplit("/", 1)[-1].startswith("."):
                continue
            if name.lower().endswith(".zip"):
                inner = tempfile.TemporaryFile()  # a zip inside a compressed zip cannot be searched in place
                with archive.open(info) as packed:
                    shutil.copyfileobj(packed, inner)
                self.look_into(zipfile.ZipFile(inner), f"{prefix}{name}/")
            else:
                self.places[prefix + name] = (archive, name)

    @property
    def images(self) -> list[str]:
        return [name for name in self.places if name.lower().endswith(EXTENSIONS)]

    def open(self, member: str) -> BinaryIO:
        place = self.places[member]
        return open(place, "rb") if isinstance(place, Path) else place[0].open(place[1])

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

    def by_stem(self, within: str = "") -> dict[str, str]:
        """Image file name without extension -> member, of those whose path has the folder `within` in it."""
        images = [name for name in self.images if not within or within in f"/{name}".lower()]
        return {name.rsplit("/", 1)[-1].rsplit(".", 1)[0]: name for name in images}

    def json(self, member: str) -> object:
        with self.open(member) as file:
            return json.load(file)

    def table(self, member: str) -> list[dict[str, str]]:
        """Rows of a CSV (comma, semicolon or tab) or of an XLSX's first sheet; names and values stripped of blanks."""
        if member.lower().endswith((".xlsx", ".xlsm")):
            rows = self.sheet(member)
        else:
            with self.open(member) as file:
                text = file.read().decode("utf-8-sig", errors="replace")
            header = text.split("\n", 1)[0]
            separator = max(",;\t", key=header.count)
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        names = [str(name).strip() for name in rows[0]] if rows else []
        return [dict(zip(names, (str(v).strip() for v in row), strict=False)) for row in rows[1:] if any(row)]

    def sheet(self, member: str) -> list[list]:
        try:
            import openpyxl
        except ImportError:
            raise UserError(f"{member} is an Excel file, which needs openpyxl: pip install openpyxl.") from None
        with self.open(member) as file:
            book = openpyxl.load_workbook(io.BytesIO(file.read()), read_only=True, data_only=True)
        return [["" if v is None else v for v in row] for row in book.worksheets[0].iter_rows(values_only=True)]

    def array(self, member: str, name: str) -> np.ndarray:
        """A small array of an .npz, whole."""
        with self.open(member) as file, np.load(io.BytesIO(file.read()) if not file.seekable() else file) as arrays:
            return arrays[name]

    def stack(self, member: str, name: str) -> Stack:
        """A large array of an .npz, an image at a time."""
        if f"{member}/{name}" not in self.stacks:
            self.stacks[f"{member}/{name}"] = Stack(self, member, name)
        return self.stacks[f"{member}/{name}"]


class Stack:
    """Images (N, H, W) or (N, H, W, 3) of an .npz, read forward as they are asked for: memory for one image."""

    def __init__(self, tree: Tree, member: str, name: str):
        self.start = lambda: zipfile.ZipFile(tree.open(member)).open(f"{name}.npy")
        self.rewind()

    def rewind(self) -> None:
        self.file, self.next = self.start(), 0
        version = np.lib.format.read_magic(self.file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, _, self.dtype = read(self.file)

    def __getitem__(self, index: int) -> np.ndarray:
        if index < self.next:
            self.rewind()
        size = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        while self.next < index:
            self.file.read(size)
            self.next += 1
        self.next += 1
        return np.frombuffer(self.file.read(size), self.dtype).reshape(self.shape[1:])
