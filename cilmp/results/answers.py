"""Which test images a run got right, and the images that two runs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cilmp.errors import brief
from cilmp.results.predictions import Predictions
from cilmp.results.runs import data_root


@dataclass
class Answers:
    """Of one run, sorted by place: which images (N,) it was asked, what they are, and whether it was right."""

    places: list[str]
    truths: list[str]
    right: np.ndarray
    classes: set[str]

    @classmethod
    def read(cls, run: dict) -> Answers | None:
        """None where no predictions were saved."""
        told = Predictions.read(run["path"], data_root(run))
        if told is None:
            return None
        places, truths, right = told.places, told.truths, told.predicted == told.labels
        order = sorted(range(len(places)), key=places.__getitem__)
        return cls([places[i] for i in order], [truths[i] for i in order], right[order], set(told.classnames))


def pair(ours: Answers, theirs: Answers) -> tuple[list[str], np.ndarray]:
    """Places (N,) of the images both were asked, sorted, and who was right (2, N); ValueError: they are no pair."""
    if ours.classes != theirs.classes:
        raise ValueError(f"have other classes ({brief(sorted(ours.classes ^ theirs.classes), 3)})")
    if ours.places == theirs.places:
        places, rows = ours.places, [ours.right, theirs.right]
        called = list(zip(places, ours.truths, theirs.truths, strict=True))
    else:
        mine, other = ({place: i for i, place in enumerate(side.places)} for side in (ours, theirs))
        places = [place for place in ours.places if place in other]
        rows = [ours.right[[mine[p] for p in places]], theirs.right[[other[p] for p in places]]] if places else []
        called = [(p, ours.truths[mine[p]], theirs.truths[other[p]]) for p in places]
    if not places:
        raise ValueError("share no image path")
    if odd := next((f"{p} is {a} and {b}" for p, a, b in called if a != b), None):
        raise ValueError(f"call an image by different classes ({odd})")
    return places, np.array(rows)


def over_seeds(pairs: Sequence[tuple[list[str], np.ndarray]]) -> np.ndarray:
    """[(places, (2, N)) of each seed] -> (seeds, 2, N) of the images that all seeds share, sorted."""
    first = pairs[0][0]
    if all(places == first for places, _ in pairs):
        return np.stack([right for _, right in pairs])
    shared = sorted(set(first).intersection(*(places for places, _ in pairs[1:])))
    columns = [{place: i for i, place in enumerate(places)} for places, _ in pairs]
    picked = [np.array([column[place] for place in shared], np.int64) for column in columns]
    return np.stack([right[:, column] for (_, right), column in zip(pairs, picked, strict=True)])
