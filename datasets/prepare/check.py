"""`check`: is what lies on disk what the declaration says, and does anything lie in two splits?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare.fingerprints import Fingerprint, fingerprints, near_pairs
from cilmp.errors import brief

SHOWN = 5  # of each kind in the report; --json has all


class Seen(NamedTuple):
    """A data set's split, and the fingerprints of its images that are on disk."""

    path: Path  # of the split file
    images: Path
    split: splits.Split
    there: list[tuple[str, splits.Item]]  # (part, item), in the order of `prints`
    prints: list[Fingerprint]
    absent: list[str]

    @property
    def flat(self) -> list[tuple[str, splits.Item]]:
        return [(name, item) for name, items in self.split.items() for item in items]

    @property
    def unreadable(self) -> list[str]:
        return [f"{item.path}: {p.problem}" for (_, item), p in zip(self.there, self.prints, strict=True) if p.problem]


def seen(dataset: type[SplitDataset], root: str, split_file: str = "") -> Seen:
    folder = dataset.located(root)
    path = dataset.split_path(folder, split_file)
    split = splits.read(path)
    images = dataset.image_folder(folder, split)
    flat = [(name, item) for name, items in split.items() for item in items]
    absent = set(splits.missing(images, [item.path for _, item in flat]))
    there = [(name, item) for name, item in flat if item.path not in absent]
    prints = fingerprints([str(images / item.path) for _, item in there], f"Hashing {dataset.__name__}")
    return Seen(path, images, split, there, prints, sorted(absent))


def check(dataset: type[SplitDataset], root: str, split_file: str = "") -> dict:
    """What was found, JSON-able.  'across_splits' ends in exit code 1, 'notes' is what to know."""
    found = seen(dataset, root, split_file)
    groups, flat = splits.read_groups(found.path), found.flat
    keys = [groups.get(item.path) or dataset.group_of(item.path) for _, item in flat]
    across = {
        "same file": across_splits(flat, (item.path for _, item in flat)),
        "identical pixels": across_splits(found.there, (p.pixels.hex() for p in found.prints)),
        "similar image": similar(found.there, found.prints),
        "same group": across_splits(flat, keys),
    }
    return {
        "dataset": dataset.__name__,
        "split_file": str(found.path),
        "images": str(found.images),
        "counts": counts(found.split),
        "missing": found.absent,
        "unreadable": found.unreadable,
        "across_splits": across,
        "two_labels": two_labels(found.there, found.prints),
        "images_with_group": sum(map(bool, keys)),
        "notes": notes(dataset, found.split, found.path),
    }


def counts(split: splits.Split) -> dict[str, dict[str, int]]:
    """Class name -> images in each split, in label order."""
    names = {item.label: item.classname for item in split["train"]}
    return {
        names[label]: {part: sum(item.label == label for item in items) for part, items in split.items()}
        for label in sorted(names)
    }


def across_splits(flat: list[tuple[str, splits.Item]], keys: Iterable[str]) -> list[list[str]]:
    """Images with one key ('' is no key) that lie in two or more splits: ['train a.png', 'test b.png'] each."""
    found = defaultdict(list)
    for (name, item), key in zip(flat, keys, strict=True):
        if key:
            found[key].append((name, item.path))
    return [
        [f"{name} {path}" for name, path in members] for members in found.values() if len({n for n, _ in members}) > 1
    ]


def similar(flat: list[tuple[str, splits.Item]], prints: list[Fingerprint]) -> list[list[str]]:
    """Pairs of similar, not identical, images in two splits."""
    pairs = []
    for i, j, bits in near_pairs(prints):
        if flat[i][0] != flat[j][0] and prints[i].pixels != prints[j].pixels:
            pairs.append([f"{flat[i][0]} {flat[i][1].path}", f"{flat[j][0]} {flat[j][1].path}", f"{bits} of 256 bits"])
    return pairs


def two_labels(flat: list[tuple[str, splits.Item]], prints: list[Fingerprint]) -> list[list[str]]:
    """Identical images under two classes."""
    found = defaultdict(list)
    for (_, item), fingerprint in zip(flat, prints, strict=True):
        if fingerprint.pixels:
            found[fingerprint.pixels].append(item)
    return [[item.path for item in same] for same in found.values() if len({item.label for item in same}) > 1]


def notes(dataset: type[SplitDataset], split: splits.Split, path: Path) -> list[str]:
    """What differs from the declaration and the card."""
    found = []
    names = splits.classnames(split, path)
    declared = [list(layout.classnames) for layout in dataset.layouts() if layout.classnames]
    if declared and names not in declared:
        order = "in another order" if any(sorted(names) == sorted(d) for d in declared) else "others"
        found.append(f"class names are {order} than the declared {' | '.join('; '.join(d) for d in declared)}")
    if "val" not in split:
        found.append("no validation set")
    total, card = sum(map(len, split.values())), dataset.card
    if card and card.total and total != card.total:
        found.append(f"{total} images, the card says {card.total}")
    sizes = tuple(len(split.get(name, ())) for name in splits.NAMES)
    if card and card.official and sizes != card.official:
        found.append(f"train/val/test {show(sizes)}, the published split has {show(card.official)}")
    frequency = Counter(item.label for item in split["train"])
    if max(frequency.values()) >= 5 * min(frequency.values()):
        most, least = (names[label] for label, _ in (frequency.most_common(1)[0], frequency.most_common()[-1]))
        ratio = max(frequency.values()) / min(frequency.values())
        found.append(f"unbalanced: {ratio:.0f} training images of '{most}' for each of '{least}'")
    for name in splits.NAMES:
        if name in split and (none := [n for i, n in enumerate(names) if all(item.label != i for item in split[name])]):
            found.append(f"no {name} image of {brief(none)}")
    return found


def show(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes))


def failed(report: dict) -> bool:
    return bool(any(report["across_splits"].values()) or report["unreadable"] or report["missing"])


def text(report: dict) -> str:
    """The report for people."""
    parts = [name for name in splits.NAMES if any(name in row for row in report["counts"].values())]
    rows = [(name, *(row.get(part, 0) for part in parts)) for name, row in report["counts"].items()]
    rows.append(("all", *(sum(row[i + 1] for row in rows) for i in range(len(parts)))))
    lines = [f"{report['dataset']}: {report['split_file']}", tabulate(rows, headers=("class", *parts)), ""]
    lines += listing("missing", report["missing"]) + listing("unreadable", report["unreadable"])
    for kind, found in report["across_splits"].items():
        if kind == "same group" and not report["images_with_group"]:
            lines.append("same group across splits: nothing identifies groups here")
        else:
            lines += listing(f"{kind} across splits", [" = ".join(members) for members in found])
    lines += listing("identical pixels under two classes", [" = ".join(members) for members in report["two_labels"]])
    lines += [f"note: {note}" for note in report["notes"]]
    lines.append("LEAK OR DAMAGE: see above" if failed(report) else "clean")
    return "\n".join(lines)


def listing(title: str, found: list[str]) -> list[str]:
    more = [f"  ... {len(found) - SHOWN} more (--json has all)"] if len(found) > SHOWN else []
    return [f"{title}: {len(found) or 'none'}", *(f"  {line}" for line in found[:SHOWN]), *more]
