"""What the 2D sets of MedMNIST have in common: a file of arrays for each size, and a published split."""

from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_npz
from cilmp.datasets.prepare.tree import Tree


class MedMNIST(SplitDataset):
    """A set whose file is its name in lower case, with _64, _128 or _224 for the larger sizes."""

    @classmethod
    def records(cls, tree: Tree, size: int = 0) -> list[Record]:
        return by_npz(tree, cls.__name__.lower(), cls.classnames, size)


def card(flag: str, citation: str, originals: str = "", licence: str = "CC BY 4.0", **facts) -> Card:
    """citation, originals: of the source that MedMNIST took its images from."""
    source = f"MedMNIST v2, {flag}[_64|_128|_224].npz at zenodo.org/records/10519652"
    if originals:
        source += f"; originals: {originals}"
    citation = f"Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; {citation}"
    return Card(source=source, citation=citation, licence=licence, **facts)
