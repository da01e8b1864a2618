"""Whose representations: a data set's class names, its modality and organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cilmp.errors import UserError, nearest


@dataclass(frozen=True)
class Classes:
    dataset: str
    names: list[str]
    modality: str = ""
    organ: str = ""

    def __post_init__(self):
        if not self.names or not all(name.strip() for name in self.names):
            raise UserError(f"{self.dataset or 'The class list'} has an empty class name: mend the list.")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise UserError(f"Class {', '.join(twice)} is given more than once: name every class once.")

    def fill(self, question: str, name: str) -> str:
        """A question about one class; {classname}, {modality} and {organ} are filled in."""
        facts = {"classname": name.replace("_", " "), "modality": self.modality, "organ": self.organ}
        for key in ("modality", "organ"):
            if f"{{{key}}}" in question and not facts[key]:
                raise UserError(
                    f"The question uses {{{key}}}, and the card of {self.dataset or 'a bare class list'} states no "
                    f"{key}: use another --question, or state it there."
                )
        try:
            return question.format(**facts)
        except (KeyError, ValueError, IndexError, AttributeError):
            raise UserError(
                f"--question '{question}' may hold {{classname}}, {{modality}} and {{organ}}, nothing else in braces."
            ) from None


def declarations() -> dict[str, type]:
    """Every data set declared in cilmp.datasets, by DATASET.NAME."""
    try:
        import cilmp.datasets  # noqa: F401  declares them
        from cilmp.datasets.base import SplitDataset
    except ImportError as error:
        raise UserError(f"The data sets need {error.name}: install it, or name the classes with --classes.") from None
    found, queue = {}, [SplitDataset]
    while queue:
        for kind in queue.pop().__subclasses__():
            queue.append(kind)
            if kind.split:
                found[kind.__name__] = kind
    return dict(sorted(found.items()))


def of(dataset: str, root: str = "") -> Classes:
    """As declared, or as in the data set's split file under `root` where there is one."""
    known = declarations()
    if dataset not in known:
        raise UserError(f"Unknown data set '{dataset}': name its classes with --classes.{nearest(dataset, known)}")
    kind = known[dataset]
    names = list(kind.classnames)
    for layout in kind.layouts() if root else ():
        path = Path(root, layout.dataset_dir, layout.split)
        if path.is_file():
            from cilmp.datasets import splits

            names = splits.classnames(splits.read(path), path)
            break
    if not names:
        raise UserError(f"The class names of {dataset} stand in its split file: give its folder as --root.")
    return Classes(dataset, names, *facts(kind))


def facts(kind: type | None) -> tuple[str, str]:
    """(modality, organ) of a data set's card, "" where it has none."""
    card = getattr(kind, "card", None)
    return getattr(card, "modality", ""), getattr(card, "organ", "")


def dataset_of(path: str) -> str:
    """DATASET.NAME of a data set's yaml."""
    import yaml

    if not Path(path).is_file():
        raise UserError(f"No config file at {path}: see the folder {Path(path).parent}.")
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))["DATASET"]["NAME"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise UserError(f"{path} states no DATASET.NAME.") from None


def named(names: Sequence[str], dataset: str) -> Classes:
    """A list given by hand, with the card of its data set if one is named."""
    try:
        kind = declarations().get(dataset) if dataset else None
    except UserError:  # names suffice where the data sets cannot be imported
        kind = None
    return Classes(dataset, list(names), *facts(kind))
