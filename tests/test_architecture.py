"""Every import, lazy ones too, against the table in docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


def table() -> tuple[dict[str, str], dict[str, set[str]]]:
    """{module or package: its room}, {room: itself and the rooms it may import}."""
    room_of, allowed = {}, {}
    for line in (HOME / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\| (\w+) \| (`.*`) \|(.*)\|", line):
            room, files, imports = match.groups()
            room_of |= dict.fromkeys(re.findall(r"`([\w.]+)`", files), room)
            allowed[room] = {room, *imports.replace(",", " ").split()}
    return room_of, allowed


ROOM_OF, ALLOWED = table()


def room(module: str) -> str | None:
    """None: not of this repository."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if found := ROOM_OF.get(".".join(parts[:n])):
            return found if n > 1 or len(parts) == 1 or found != "ground" else "unknown"
    return None


def modules() -> dict[str, Path]:
    found = {"train": HOME / "train.py"}
    for base, name in (("cilmp", "cilmp"), ("trainers", "cilmp.trainers"), ("datasets", "cilmp.datasets")):
        for path in (HOME / base).rglob("*.py"):
            inside = path.relative_to(HOME / base).with_suffix("").parts
            if base != "cilmp" or inside[0] not in ("trainers", "datasets"):  # the links to them
                found[".".join((name, *inside)).removesuffix(".__init__")] = path
    for path in (HOME / "dassl-compat" / "dassl").rglob("*.py"):
        inside = path.relative_to(HOME / "dassl-compat").with_suffix("").parts
        found[".".join(inside).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` may mean a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {node.module}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    here = room(module)
    assert here in ALLOWED, f"{module} is in no room of docs/architecture.md"
    for name in imports(MODULES[module]):
        there = room(name)
        assert there is None or there in ALLOWED[here], f"{module} ({here}) imports {name} ({there})"


def test_a_trainer_never_imports_another():
    shared = {"cilmp.trainers.base", "cilmp.trainers.method", "cilmp.trainers.learners", "cilmp.trainers.features"}
    for module, path in MODULES.items():
        if module.startswith("cilmp.trainers.") and not module.startswith("cilmp.trainers.engine"):
            others = {n for n in imports(path) if n.startswith("cilmp.trainers") and ".engine" not in n} - shared
            assert not others, module


def test_every_row_names_what_exists():
    known = MODULES.keys() | {module.rsplit(".", 1)[0] for module in MODULES}
    assert set(ROOM_OF) <= known | {"cilmp.__main__"}
    assert set().union(*ALLOWED.values()) == set(ALLOWED)
