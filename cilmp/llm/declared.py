"""The classes of declared data sets, for the program; the rest of this folder knows no data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cilmp import yamls
from cilmp.errors import UserError, nearest
from cilmp.llm.classes import Classes
from cilmp.llm.store import file_name


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


def file_of(dataset: str) -> str:
    """The name of a data set's file in a folder of representations."""
    return file_name(dataset, getattr(declarations().get(dataset), "representations", ""))


def dataset_of(path: str) -> str:
    """DATASET.NAME of a data set's yaml, given as its path or name."""
    import yaml

    found = yamls.find(path, "datasets", "data set")
    try:
        return yaml.safe_load(found.read_text(encoding="utf-8"))["DATASET"]["NAME"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise UserError(f"{path} states no DATASET.NAME.") from None


def named(names: Sequence[str], dataset: str) -> Classes:
    """A list given by hand, with the card of its data set if one is named."""
    try:
        kind = declarations().get(dataset) if dataset else None
    except UserError:  # names suffice where the data sets cannot be imported
        kind = None
    return Classes(dataset, list(names), *facts(kind))
