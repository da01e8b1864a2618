"""Where what ships lies, and the yaml files by name: `datasets/<name>.yaml` and `trainers/<Trainer>/<name>.yaml`."""

from __future__ import annotations

from pathlib import Path

from cilmp.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parent


def home(name: str) -> Path:
    """Of `configs` or `docs`: in the installed package, else at the top of the checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def folder(beside: Path | None = None) -> Path:
    """Of the yamls: beside another program, else the toolbox's own."""
    own = beside.resolve().parent / "configs" if beside is not None else None
    return own if own is not None and own.is_dir() else home("configs")


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
