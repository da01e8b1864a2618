"""What the images of a folder were made from: noted beside the split file, and compared before more are written."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError
from cilmp.files import write_text


def note_file(split_file: Path) -> Path:
    return split_file.with_name(f"{split_file.stem}.source.json")


def of(tree: Tree, records: list[Record]) -> dict:
    """The download's name and, for images out of an array, its size in bytes and theirs in pixels."""
    array = next((record.member for record in records if ".npz/" in record.member), "")
    if not array:
        return {"source": tree.source.name}
    archive, name, _ = array.rsplit("/", 2)
    return {"source": archive, "bytes": tree.size(archive), "pixels": list(tree.stack(archive, name).shape[1:3])}


def require_equal(tree: Tree, records: list[Record], names: list[str], images: Path, split_file: Path) -> None:
    """UserError where images of other content lie under the names that this download's would get."""
    now, before = of(tree, records), noted(split_file)
    there = [(record, name) for record, name in zip(records, names, strict=True) if (images / name).exists()]
    other = [name for record, name in there if not stands(tree, record.member, images / name)]
    measured = {key for key in ("bytes", "pixels") if before.get(key, now.get(key)) != now.get(key)}
    if there and (other or measured):
        such = other[0] if other else there[0][1]
        raise UserError(
            f"{images} holds {len(there)} images {f'made from {told(before)}' if before else 'of other content'}, "
            f"such as {such}; this is {told(now)}. Delete them, or take another --root."
        )


def note(tree: Tree, records: list[Record], split_file: Path) -> None:
    write_text(note_file(split_file), json.dumps(of(tree, records)), mend="check --root")


def noted(split_file: Path) -> dict:
    """{} where nothing is noted, or nothing that can be read."""
    try:
        before = json.loads(note_file(split_file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return before if isinstance(before, dict) else {}


def stands(tree: Tree, member: str, target: Path) -> bool:
    """Is a file what would be written there?  By its size: in pixels for images out of an array, else in bytes."""
    if member in tree.places:
        return target.stat().st_size == tree.size(member)
    archive, name, _ = member.rsplit("/", 2)
    height, width = tree.stack(archive, name).shape[1:3]
    try:
        with Image.open(target) as image:
            return image.size == (width, height)
    except OSError:
        return False


def told(note: dict) -> str:
    pixels = note.get("pixels")
    return f"{note.get('source')}" + (f" of {pixels[0]} x {pixels[1]} pixels" if pixels else "")
