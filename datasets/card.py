"""What is known of a data set, for whoever is about to train on it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    modality: str
    organ: str
    source: str  # where to get it
    citation: str
    licence: str = "not verified"
    labels: str = ""  # how they were made
    images: dict[str, int] = field(default_factory=dict)  # class name -> images; empty: not published
    official: tuple[int, int, int] | None = None  # published train, val, test; None: there is none
    group: str = ""  # what must not be divided between splits, and how it is recognised; "": nothing identifies it
    faults: tuple[str, ...] = ()  # known ones

    @property
    def total(self) -> int:
        """Images in all; 0 where not published."""
        return sum(self.images.values()) or sum(self.official or ())
