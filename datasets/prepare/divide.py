"""Records into train, val and test: as published, in a reference's counts, or with groups kept together."""

from __future__ import annotations

import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from cilmp.datasets.prepare.records import Record
from cilmp.datasets.splits import NAMES
from cilmp.errors import UserError, brief

Counts = dict[str, tuple[int, int, int]]  # class name -> images in train, val, test


def official(records: list[Record]) -> list[str]:
    """The published split of each record; UserError where there is none."""
    if not all(record.split for record in records):
        raise UserError("This data set has no published split here: use --split grouped or reference.")
    strange = sorted({record.split for record in records} - set(NAMES))
    if strange:
        raise UserError(
            f"The published split names {brief(strange)}, not train, val and test: rename, or --split grouped."
        )
    return [record.split for record in records]


def reference(records: list[Record], counts: Counts, seed: int, pool: str = "") -> list[str]:
    """A random draw with a reference's counts a class; '' = an image that the reference leaves out.

    Which images the reference drew is not published, only how many.  A class whose total differs is divided in the
    reference's proportions.  `pool`: the part of the published split that the reference drew from.
    """
    rng, splits = random.Random(seed), [""] * len(records)
    for classname, wanted in counts.items():
        members = [i for i, r in enumerate(records) if r.classname == classname and pool in ("", r.split)]
        if len(members) != sum(wanted):
            print(f"{classname}: {len(members)} images here, {sum(wanted)} in the reference: its proportions are kept")
            wanted = shares(len(members), wanted)
        rng.shuffle(members)
        for name, n in zip(NAMES, wanted, strict=True):
            for i in members[:n]:
                splits[i] = name
            members = members[n:]
    return splits


def proportional(records: list[Record], totals: tuple[int, int, int]) -> Counts:
    """Counts a class that add up to the totals of a reference which publishes no more: stratified."""
    sizes = Counter(record.classname for record in records)
    rest, counts = dict(sizes), {classname: [0, 0, 0] for classname in sizes}
    total = sum(totals)
    for i, wanted in list(enumerate(totals))[:0:-1]:  # test, val; train takes what is left
        exact = {name: n * wanted / total for name, n in sizes.items()}
        got = {name: int(x) for name, x in exact.items()}
        short = round(sum(sizes.values()) * wanted / total) - sum(got.values())
        for name in sorted(exact, key=lambda name: got[name] - exact[name])[:short]:
            got[name] += 1
        for name, n in got.items():
            counts[name][i], rest[name] = n, rest[name] - n
    return {name: (rest[name], row[1], row[2]) for name, row in counts.items()}


def shares(n: int, ratio: tuple[int, int, int]) -> tuple[int, int, int]:
    """n images in the proportions of `ratio`."""
    test = round(n * ratio[2] / sum(ratio))
    val = round(n * ratio[1] / sum(ratio))
    return n - val - test, val, test


def grouped(labels: list[str], groups: list[int], ratio: tuple[int, int, int], seed: int) -> list[str]:
    """Whole groups to each split, class proportions alike in all: folds of StratifiedGroupKFold, joined."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = tenths(ratio)
    if max(Counter(labels).values()) < sum(folds) or len(set(groups)) < sum(folds):
        raise UserError(f"A grouped split needs {sum(folds)} images of a class and {sum(folds)} groups.")
    keep = StratifiedGroupKFold(n_splits=sum(folds), shuffle=True, random_state=seed)
    order = [name for name, n in zip(("test", "val", "train"), reversed(folds), strict=True) for _ in range(n)]
    splits = [""] * len(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer images than folds: looked at below
        chosen_by_fold = [chosen for _, chosen in keep.split(np.zeros(len(labels)), labels, groups)]
    for name, chosen in zip(order, chosen_by_fold, strict=True):
        for i in chosen:
            splits[i] = name
    for classname in sorted(set(labels)):
        for name in ("train", "test"):
            if not any(s == name and label == classname for s, label in zip(splits, labels, strict=True)):
                raise UserError(f"Class '{classname}' lies in too few groups to reach '{name}': try another --seed.")
    return splits


def tenths(ratio: tuple[int, int, int]) -> list[int]:
    """A ratio in tenths, at least one for a part that is not empty."""
    val, test = (max(1, round(10 * n / sum(ratio))) if n else 0 for n in ratio[1:])
    return [10 - val - test, val, test]


def merged(n: int, *ties: Iterable[Iterable[int]]) -> list[int]:
    """Group number of each of n records, where each tie holds records that belong together (union-find)."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for kind in ties:
        for tie in kind:
            first, *others = tie
            for other in others:
                parent[root(other)] = root(first)
    return [root(i) for i in range(n)]


def alike(keys: Iterable[str]) -> list[list[int]]:
    """Positions that share a key; '' is nobody's."""
    positions = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            positions[key].append(i)
    return [group for group in positions.values() if len(group) > 1]
