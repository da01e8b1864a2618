"""What a group of runs gets wrong where it is sure, and the sets it answers with: two sections of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cilmp.analysis import charts, page, panels
from cilmp.errors import UserError
from cilmp.results import conformal, selective
from cilmp.results.predictions import Predictions
from cilmp.results.tables import Cell, Listing

ALPHA = 0.1
Found = Mapping[str, Sequence[Predictions]]  # {trainer: predictions of its seeds}


def risk(title: str, found: Found) -> str:
    curves = {}
    for name, seeds in found.items():
        sure = [(p.probabilities.max(1), p.predicted == p.labels) for p in seeds]
        area = over([selective.aurc(*of) for of in sure])
        curves[f"{name}, AURC {area} %"] = np.mean([on_grid(selective.risk_coverage(*of)) for of in sure], axis=0)
    caption = (
        "Errors among the surest images, by the probability of the predicted class; mean over seeds. AURC: mean risk."
    )
    alt = f"Risk by coverage of each trainer, {title}"
    return page.figure(title, {alt: charts.svg(charts.risk_coverage(curves))}, caption)


def on_grid(risk: np.ndarray) -> np.ndarray:
    """Risk (N,) at coverage k / N -> (101,) at 0, 0.01 .. 1; at 0 that of the surest image."""
    return np.interp(np.linspace(0, 1, 101), np.arange(1, len(risk) + 1) / len(risk), risk)


def sets(title: str, found: Found) -> str:
    try:
        told = {name: [resampled(p) for p in seeds] for name, seeds in found.items()}
    except UserError as error:  # too few images
        return f'<h3>{page.escape(title)}</h3><p class="quiet">No sets: {page.escape(str(error))}</p>'
    pictures, rows = {}, []
    for name, seeds in told.items():
        for score in seeds[0]:
            each = [of[score] for of in seeds]
            lowest = [np.nanmin(s.per_class) for s in each]
            numbers = [100 * s.coverage.mean() for s in each], [s.size.mean() for s in each], [100 * x for x in lowest]
            rows.append(((name, score), [over(column) for column in numbers]))
        shares = {score: np.mean([of[score].sizes for of in seeds], axis=0) for score in seeds[0]}
        pictures[f"Sizes of prediction sets of {name}, {title}"] = panels.set_sizes(name, shares)
    columns = ["coverage %", "mean size", "lowest class %"]
    table = Listing(f"Sets of {100 * (1 - ALPHA):g} % coverage", ["trainer", "score"], columns, rows)
    caption = (
        "100 times a random half of the test images sets the threshold and the other half is tested; mean ± deviation "
        "over seeds. The coverage of a single class is not promised."
    )
    return page.figure(title, pictures, caption) + page.table(table)


def resampled(p: Predictions) -> dict[str, conformal.Sets]:
    """{score: what its sets do}."""
    return {name: conformal.resampled(s, p.labels, ALPHA) for name, s in conformal.scores(p.logits).items()}


def over(numbers: Sequence[float]) -> str:
    """Of seeds: mean ± deviation."""
    return Cell(dict(enumerate(map(float, numbers)))).text()
