"""Which images a run trains on: a few of each class, a few of all, and which classes.

The draw is CoOp's (Dassl's generate_fewshot_dataset after set_random_seed): classes in order of appearance, a sample of
each from Python's generator, training images first, then validation images, both before classes are left out.  With a
generator of our own, seeded alike, a seed selects the images that the reference selects, whatever ran before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from cilmp.datasets.splits import Item, Split
from cilmp.errors import UserError, brief, nearest


def by_class(items: list[Item]) -> list[list[Item]]:
    """Classes in order of appearance."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return list(groups.values())


def balanced(items: list[Item], shots: int, rng: random.Random) -> list[Item]:
    """`shots` images of each class; a class with fewer gives all it has."""
    drawn = []
    for group in by_class(items):
        drawn += rng.sample(group, shots) if len(group) >= shots else group
    return drawn


def imbalanced(items: list[Item], shots: int, rng: random.Random) -> list[Item]:
    """`shots` times the number of classes images, divided among the classes as nature does; a rare one may get none.

    The realistic setting of Silva-Rodriguez et al. 2025, "Few-shot, now for real": class c gives round(N p_c) images,
    and what rounding adds is taken from the largest.
    """
    groups = by_class(items)
    total = min(shots * len(groups), len(items))
    sizes = [round(total * len(group) / len(items)) for group in groups]
    while sum(sizes) > total:
        sizes[sizes.index(max(sizes))] -= 1
    return [item for group, size in zip(groups, sizes, strict=True) for item in rng.sample(group, size)]


def few(split: Split, shots: int, rule: str, seed: int) -> Split:
    """The split with `shots` training images a class (below 1: all) and min(shots, 4) a class for validation."""
    if rule not in ("balanced", "imbalanced"):
        raise UserError(f"DATASET.FEWSHOT is '{rule}': use balanced or imbalanced.")
    if shots < 1:
        return split
    rng = random.Random(seed) if seed >= 0 else random.Random()
    if rule == "imbalanced":
        drawn = imbalanced(split["train"], shots, rng)
        absent = sorted({item.classname for item in split["train"]} - {item.classname for item in drawn})
        if absent:
            print(f"FEWSHOT imbalanced: none of the {len(drawn)} training images shows {brief(absent)}")
        return {"train": drawn, "test": split["test"]}
    short = short_of(split["train"], shots)
    if short:
        print(f"NUM_SHOTS {shots}: all there are of {brief([f'{name} ({n})' for name, n in short.items()])}")
    drawn = {"train": balanced(split["train"], shots, rng)}
    if "val" in split:
        drawn["val"] = balanced(split["val"], min(shots, 4), rng)
    return {**drawn, "test": split["test"]}


def held_back(split: Split, share: float, seed: int, owner: str = "") -> Split:
    """The split whose list 'val' is that share of each class's training images, drawn by the seed; they are trained on
    no more.  A class keeps one image at least."""
    if "val" in split:
        raise UserError(f"DATASET.HELD_BACK is {share:g}, and {owner} has a list 'val', which is used: leave it out.")
    if seed < 0:
        raise UserError(
            "DATASET.HELD_BACK needs a SEED of 0 or more, which says later which images were not trained on."
        )
    rng, groups = random.Random(seed), by_class(split["train"])
    held = [item for group in groups for item in rng.sample(group, min(round(share * len(group)), len(group) - 1))]
    if not held:
        most = max(map(len, groups))
        raise UserError(f"DATASET.HELD_BACK {share:g} of {most} training images a class is none: give more of either.")
    taken = set(held)
    train = [item for item in split["train"] if item not in taken]
    print(f"{len(held)} of {len(split['train'])} training images are held back for validation (DATASET.HELD_BACK)")
    return {"train": train, "val": held, "test": split["test"]}


def short_of(items: list[Item], shots: int) -> dict[str, int]:
    """Classes with fewer images than wanted, and how many they have."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.classname] = counts.get(item.classname, 0) + 1
    return {name: n for name, n in counts.items() if n < shots}


def half(classnames: list[str], which: str, base: Sequence[str] = (), owner: str = "") -> list[int]:
    """Labels of the classes in use: all, the base half or the new half.

    The base half is the first ceil(n / 2) classes, as in CoOp, or the names in `base`.
    """
    labels = list(range(len(classnames)))
    if len(labels) < 2:
        raise UserError(f"{owner} has one class, '{classnames[0]}', where every guess is right: add images of another.")
    if which == "all":
        return labels
    if which not in ("base", "new"):
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES is '{which}': use all, base or new.")
    for name in base:
        if name not in classnames:
            raise UserError(f"DATASET.BASE_CLASSES: {owner} has no class '{name}'.{nearest(name, classnames)}")
    chosen = {classnames.index(name) for name in base} or set(labels[: math.ceil(len(labels) / 2)])
    halves = {"base": sorted(chosen), "new": [label for label in labels if label not in chosen]}
    for name in (which,) if base else halves:  # of halves chosen by name only the one in use
        part = halves[name]
        if len(part) < 2:
            left = f"only '{classnames[part[0]]}'" if part else "no class"
            raise UserError(
                f"{owner} has {len(labels)} classes and {left} in its {name} half, where every guess is right: use "
                "DATASET.SUBSAMPLE_CLASSES all, a data set with more classes, or halves by DATASET.BASE_CLASSES."
            )
    return halves[which]


def keep(split: Split, labels: list[int]) -> Split:
    """Only the classes `labels`, numbered from 0 in their order."""
    number = {label: i for i, label in enumerate(labels)}
    return {
        name: [item._replace(label=number[item.label]) for item in items if item.label in number]
        for name, items in split.items()
    }
