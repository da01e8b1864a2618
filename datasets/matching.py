"""The images of one data set under the classes of another: how what one hospital taught is tested in the next.

DATASET.CLASSES_OF names the source.  Its classes, in its order, are those of the run; an image takes the source's class
that its own one is declared to be, and is left out where there is none.  Classes of the source that have no image here
stay: a model of three classes is tested as a model of three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cilmp.datasets import splits
from cilmp.datasets.splits import Split
from cilmp.errors import UserError, brief, nearest
from dassl.data.datasets import DATASET_REGISTRY

if TYPE_CHECKING:
    from cilmp.datasets.base import SplitDataset

Map = dict[str, str]  # class here -> class of the source


def under(target: type[SplitDataset], split: Split, names: Sequence[str], options) -> tuple[Split, list[str]]:
    """(the split with the source's labels and class names, these names in label order); what is left out is said.

    names: the target's classes.  options: cfg.DATASET.
    """
    source = options.CLASSES_OF
    theirs = names_of(source, options.ROOT)
    declared = given(options.get("CLASS_MAP", ())) or target.matches.get(source, {})
    check(
        declared, (target.__name__, all_names(target, names)), (source, all_names(DATASET_REGISTRY.get(source), theirs))
    )
    same = {name: name for name in names if name in theirs}
    same |= {here: there for here, there in declared.items() if here in names and there in theirs}
    if len(set(same.values())) < 2:
        raise UserError(
            f"{target.__name__} ({brief(list(names))}) and {source} ({brief(theirs)}) share fewer than two classes: "
            "say which are the same by DATASET.CLASS_MAP \"['class here = class there', ...]\"."
        )
    print(told(target.__name__, source, split, names, theirs, same))
    moved = {
        part: [
            splits.Item(item.path, theirs.index(same[item.classname]), same[item.classname])
            for item in items
            if item.classname in same
        ]
        for part, items in split.items()
    }
    return moved, theirs


def names_of(source: str, root: str) -> list[str]:
    """A data set's class names in label order, from its split file: those that a model was taught."""
    known = DATASET_REGISTRY.registered_names()
    if source not in known:
        raise UserError(f"DATASET.CLASSES_OF is '{source}', which is no data set.{nearest(source, known)}")
    dataset = DATASET_REGISTRY.get(source)
    path = dataset.split_path(dataset.located(root))
    return splits.classnames(splits.read(path), path)


def all_names(dataset: type[SplitDataset], names: Sequence[str]) -> list[str]:
    """Those on disk, and those of every layout it may lie in: a map speaks of all."""
    return list(dict.fromkeys([*names, *(name for layout in dataset.layouts() for name in layout.classnames)]))


def given(pairs: Sequence[str]) -> Map:
    """DATASET.CLASS_MAP: 'class here = class there' each."""
    found: Map = {}
    for pair in pairs:
        here, equals, there = (part.strip() for part in str(pair).partition("="))
        if not (here and equals and there) or here in found:
            raise UserError(f"DATASET.CLASS_MAP has '{pair}': each is 'class here = class there', a class once.")
        found[here] = there
    return found


def check(declared: Map, here: tuple[str, list[str]], there: tuple[str, list[str]]) -> None:
    """UserError for a map that speaks of classes which do not exist."""
    for (owner, names), said in ((here, declared), (there, declared.values())):
        for name in said:
            if name not in names:
                raise UserError(
                    f"The class map of {here[0]} onto {there[0]} names '{name}', which is no class of {owner}."
                    f"{nearest(name, names)}"
                )


def told(target: str, source: str, split: Split, names: Sequence[str], theirs: list[str], same: Map) -> str:
    """What became of every class, in a line."""
    count = Counter(item.classname for items in split.values() for item in items)
    out = [f"{name} ({count[name]} images)" for name in names if name not in same]
    lone = [name for name in theirs if name not in same.values()]
    how = "; ".join(f"{here} is {there}" for here, there in same.items() if here != there) or "by name"
    return (
        f"{target} in the classes of {source}: {len(same)} of {len(names)} matched ({how}); "
        f"left out: {', '.join(out) or 'none'}; of {source} and not here: {', '.join(lone) or 'none'}"
    )
