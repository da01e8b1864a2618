"""The yaml files that ship with the toolbox: `datasets/<name>.yaml` and `trainers/<Trainer>/<name>.yaml`, by name."""

from __future__ import annotations

from pathlib import Path

from cilmp.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parent


def folder(beside: Path | None = None) -> Path:
    """Of the yamls: beside another program, else in the installed package, else at the top of the checkout."""
    places = [PACKAGE / "configs", PACKAGE.parent / "configs"]
    if beside is not None:
        places.insert(0, beside.resolve().parent / "configs")
    return next((place for place in places if place.is_dir()), places[-1])


def pick(inside: Path, name: str, what: str) -> Path:
    """The yaml of that name.  UserError names those there are."""
    path = inside / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"No {what} '{name}' in {inside}.{shipped(inside, name)}")
    return path


def find(given: str, kind: str, what: str) -> Path:
    """A path that exists; else a shipped yaml, by its name in `kind` (datasets, trainers/CoOp) or from configs/ on."""
    path = Path(given)
    if path.is_file():
        return path
    if path.name == given and path.suffix not in (".yaml", ".yml"):
        return pick(folder() / kind, given, what)
    if path.parts[0] == "configs" and (here := folder().joinpath(*path.parts[1:])).is_file():
        return here
    told = shipped(folder() / kind, path.stem)
    raise UserError(f"No config file at {given}: check the path, or give the name of one that ships.{told}")


def shipped(inside: Path, name: str) -> str:
    known = [path.stem for path in inside.glob("*.yaml")]
    return nearest(name, known) if known else ""
