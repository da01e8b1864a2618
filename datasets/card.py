"""What is known of a data set, for whoever is about to train on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    modality: str
    organ: str
    images: dict[str, int]  # class name -> images in the original download; empty where not published
    source: str  # where to get it
    citation: str
    licence: str = "not stated"  # as far as it could be verified
    labels: str = ""  # how they were made
    official: str = ""  # the published split, train/val/test; empty: there is none
    reference: str = ""  # counts of the split that a reference implementation used
    group: str = ""  # what belongs together in a split; empty: nothing identifies it
    faults: tuple[str, ...] = ()  # known ones

    @property
    def total(self) -> int:
        return sum(self.images.values())
