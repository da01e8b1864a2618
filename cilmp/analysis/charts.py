"""Charts of finished runs that a black-and-white print keeps apart: markers, dashes and hatches, not colour alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cilmp.results.tables import Cell, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")  # Okabe and Ito
MARKERS, DASHES = "osD^vPX*", ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (5, 5)))
HATCHES = ("", "//", "\\\\", "xx", "..", "++", "oo", "--")


def plt() -> Any:
    """pyplot, without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110,
                            "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True,
                            "text.parse_math": False,  # a name with dollar signs is a name
                            "svg.hashsalt": "cilmp", "svg.fonttype": "none"})  # fmt: skip
    return pyplot


def entry(name: str) -> str:
    """A name for a legend, which leaves out what begins with an underscore: a blank of no width goes first."""
    return f"\u200b{printable(name)}" if name.startswith("_") else printable(name)


def style(i: int) -> dict:
    return dict(color=COLOURS[i % 8], marker=MARKERS[i % 8], linestyle=DASHES[i % 8], linewidth=1.6, markersize=6)


def svg(figure: Figure) -> str:
    """A data: address for <img>, which keeps one picture's identifiers out of another's."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt().close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def save(figure: Figure, path: Path) -> list[Path]:
    """As PNG (300 dpi) and SVG beside each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for file in files:
        figure.savefig(file, dpi=300, bbox_inches="tight", metadata={"Date": None} if file.suffix == ".svg" else None)
    plt().close(figure)
    return files


def few_shot_curves(cells: Mapping[str, Mapping[int, Cell]], metric: str) -> Figure:
    """{trainer: {shots: cell}}: means with bands of one standard deviation."""
    figure, axes = plt().subplots(figsize=(6.4, 4.2))
    ticks = sorted({shots for curve in cells.values() for shots in curve})
    for i, (name, curve) in enumerate(cells.items()):
        shots = [s for s in ticks if s in curve and curve[s].values]
        mean = np.array([curve[s].mean for s in shots])
        std = np.nan_to_num([curve[s].std for s in shots])
        places = [ticks.index(s) for s in shots]
        axes.plot(places, mean, label=entry(name), **style(i))
        axes.fill_between(places, mean - std, mean + std, color=COLOURS[i % 8], alpha=0.13, lw=0)
    axes.set_xticks(range(len(ticks)), ["all" if s == -1 else str(s) for s in ticks])
    axes.set_xlabel("training images a class")
    axes.set_ylabel(f"{metric} (%)")
    axes.legend(frameon=False)
    return figure


def base_new_bars(cells: Mapping[str, Sequence[Cell]], metric: str) -> Figure:
    """{trainer: (base, new, H)}: one bar each, deviations as whiskers."""
    figure, axes = plt().subplots(figsize=(6.4, 4.2))
    width = 0.8 / max(1, len(cells))
    for i, (name, row) in enumerate(cells.items()):
        place = np.arange(3) + (i - (len(cells) - 1) / 2) * width
        bars = dict(color=COLOURS[i % 8], hatch=HATCHES[i % 8], edgecolor="white", label=entry(name))
        axes.bar(place, np.nan_to_num([c.mean for c in row]), width, **bars)
        axes.errorbar(place, [c.mean for c in row], [c.std for c in row], fmt="none", ecolor="black", capsize=3, lw=1)
    axes.set_xticks(range(3), ["base", "new", "H"])
    axes.set_ylabel(f"{metric} (%)")
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
    return figure


def risk_coverage(curves: Mapping[str, np.ndarray]) -> Figure:
    """{name: risk (101,) at coverage 0, 0.01 .. 1}."""
    figure, axes = plt().subplots(figsize=(6.4, 4.2))
    for i, (name, risk) in enumerate(curves.items()):
        axes.plot(range(101), 100 * risk, label=entry(name), **style(i) | dict(markevery=20, markersize=4))
    axes.set_xlabel("coverage: the surest images (%)")
    axes.set_ylabel("risk: errors among them (%)")
    axes.legend(frameon=False)
    return figure


def learning_curves(curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """{trainer: [(epoch (n,), loss (n,)) of each seed]}: mean over seeds."""
    figure, axes = plt().subplots(figsize=(6.4, 4.2))
    from matplotlib import ticker

    for i, (name, seeds) in enumerate(curves.items()):
        ends = sorted(set.intersection(*(set(epoch.tolist()) for epoch, _ in seeds)))
        loss = np.array([[dict(zip(epoch.tolist(), values, strict=True))[e] for e in ends] for epoch, values in seeds])
        look = style(i) | dict(markevery=max(1, len(ends) // 8), markersize=4)
        axes.plot(ends, loss.mean(0), label=entry(name), **look)
        axes.fill_between(ends, loss.min(0), loss.max(0), color=COLOURS[i % 8], alpha=0.12, lw=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss (mean of an epoch)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")  # matplotlib's own are formulas
    axes.yaxis.set_minor_formatter(ticker.LogFormatter())
    axes.legend(frameon=False)
    return figure
