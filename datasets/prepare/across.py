"""`check --against`: does a model's training set hold images that another data set tests it on?

Public sets are made of one another.  What counts is an image that is trained on, or chosen by, here and tested there;
other images that both sets have are counted, and no fault.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.prepare.check import Seen, listing, seen
from cilmp.datasets.prepare.fingerprints import Fingerprint, near_pairs


def check(dataset: type[SplitDataset], root: str, split_file: str, others: list[type[SplitDataset]]) -> dict:
    """What was found, JSON-able."""
    here = seen(dataset, root, split_file)
    found = {other.__name__: shared(here, seen(other, root)) for other in others}
    return {"dataset": dataset.__name__, "split_file": str(here.path), "against": found}


def shared(here: Seen, there: Seen) -> dict:
    """Pairs of images, trained on here and tested there; how many images there are here too, otherwise; and what could
    not be compared."""
    leaks: dict[str, list[list[str]]] = {"identical pixels": [], "similar image": []}
    leaked, alike = set(), set()
    for i, j, bits in pairs(here.prints, there.prints):
        (part, item), (other, theirs) = here.there[i], there.there[j]
        if part == "test" or other != "test":
            alike.add(j)
            continue
        leaked.add(j)
        pair = [f"{part} {item.path}", f"{other} {theirs.path}"]
        if here.prints[i].pixels == there.prints[j].pixels:
            leaks["identical pixels"].append(pair)
        else:
            leaks["similar image"].append([*pair, f"{bits} of 256 bits"])
    tests = sum(part == "test" for part, _ in there.there)
    lost = [*here.absent, *here.unreadable, *there.absent, *there.unreadable]
    return {"leaks": leaks, "leaked": len(leaked), "tests": tests, "alike": len(alike - leaked), "not compared": lost}


def pairs(here: list[Fingerprint], there: list[Fingerprint]) -> Iterator[tuple[int, int, int]]:
    """(i, j, differing bits) of images that are one: 0 for equal pixels, of flat images too."""
    places = defaultdict(list)
    for j, fingerprint in enumerate(there):
        places[fingerprint.pixels].append(j)
    for i, fingerprint in enumerate(here):
        for j in places[fingerprint.pixels] if fingerprint.pixels else ():
            yield i, j, 0
    for i, j, bits in near_pairs([*here, *there]):
        if i < len(here) <= j and here[i].pixels != there[j - len(here)].pixels:
            yield i, j - len(here), bits


def failed(report: dict) -> bool:
    return any(found["leaked"] or found["not compared"] for found in report["against"].values())


def text(report: dict) -> str:
    """The report for people."""
    name, lines = report["dataset"], [f"{report['dataset']}: {report['split_file']}"]
    for other, found in report["against"].items():
        lines.append(
            f"{other}: {found['leaked']} of {found['tests']} test images are training or validation images of {name}; "
            f"{found['alike']} more of its images are in both sets"
        )
        for kind, pairs in found["leaks"].items():
            lines += listing(f"{kind} in {name} and {other}", [" = ".join(pair) for pair in pairs]) if pairs else []
        lines += listing("not compared", found["not compared"]) if found["not compared"] else []
    lines.append("LEAK OR DAMAGE: see above" if failed(report) else "clean")
    return "\n".join(lines)
