"""The pictures that a report holds by the hundred, written as SVG by hand: a plotting library takes a hundred times as
long, and gigabytes for a confusion matrix of hundreds of classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from cilmp.results.tables import printable

LARGEST, SIDE = 26.0, 640.0  # of a matrix in px: a class, and all classes
NUMBERS, NAMES = 12, 64  # up to so many classes their cells hold numbers, their edges names

LONGEST, FILLS = 8, ("#9ecae1", "#fff", "#555")  # of sets: the last size with a bar of its own; of their scores


def address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture(width: float, height: float, parts: Sequence[str]) -> str:
    """A data: address for <img>."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
    style = "<style>text{font:10px sans-serif;fill:#111}.light{fill:#fff}path{stroke:#111;fill:none}</style>"
    whole = f'{head} viewBox="0 0 {width:.0f} {height:.0f}">{style}{"".join(parts)}</svg>'
    return address("svg+xml", whole.encode())


def word(x: float, y: float, text: str, anchor: str = "middle", size: float = 10, more: str = "") -> str:
    """The text as it is written, its middle line at y."""
    place = f'x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="{anchor}" style="font-size:{size:.0f}px"'
    return f"<text {place} {more}>{escape(printable(text))}</text>"


def upright(x: float, y: float, text: str, anchor: str = "end", size: float = 10) -> str:
    return word(x, y, text, anchor, size, f'transform="rotate(-90 {x:.1f} {y:.1f})"')


def confusion_matrix(name: str, matrix: np.ndarray, classnames: Sequence[str]) -> str:
    """(C, C) counts, truth down, shaded by percent of the true class; few classes hold both numbers, many no names."""
    classes = len(matrix)
    cell = min(LARGEST, SIDE / classes)
    side, named = cell * classes, classes <= NAMES
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    short = [c if len(c) <= 16 else c[:15] + "…" for c in classnames] if named else []
    font = min(10.0, cell)
    edge = 22 + 0.62 * font * max(map(len, short), default=0)  # of the names, and of what the axis is
    left, top = edge + 6, 24
    out = io.BytesIO()
    Image.fromarray((255 - 2.55 * share).round().astype(np.uint8)).save(out, "PNG")
    smooth = "auto" if cell < 1 else "pixelated"
    parts = [
        f'<image x="{left:.1f}" y="{top}" width="{side:.1f}" height="{side:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:{smooth}" href="{address("png", out.getvalue())}"/>',
        f'<path d="M{left:.1f} {top}h{side:.1f}v{side:.1f}h{-side:.1f}z"/>',
        word(left + side / 2, 10, name, size=12),
    ]
    for k, label in enumerate(short):
        parts.append(word(left - 4, top + (k + 0.5) * cell, label, "end", font))
        parts.append(upright(left + (k + 0.5) * cell, top + side + 4, label, size=font))
    if classes <= NUMBERS:
        for (i, j), percent in np.ndenumerate(share):
            x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell
            light = 'class="light"' if percent > 55 else ""
            parts += [
                word(x, y - 5, f"{percent:.0f}", more=light),
                word(x, y + 6, f"{matrix[i, j]}", size=7, more=light),
            ]
    what = "" if named else f" ({classes} classes in label order)"
    parts.append(word(left + side / 2, top + side + edge - 4, f"prediction{what}"))
    parts.append(upright(10, top + side / 2, f"truth{what}", "middle"))
    return picture(left + max(side, 7 * len(name) / 2 + side / 2) + 8, top + side + edge + 8, parts)


def set_sizes(name: str, shares: Mapping[str, np.ndarray]) -> str:
    """{score: share of sets with 0 .. C classes (C + 1,)}: bars side by side; sizes from LONGEST on are one."""
    left, top, width, height = 46, 40, 220, 176
    count = len(next(iter(shares.values())))
    sizes = [str(k) for k in range(min(count, LONGEST))] + (
        [f"{LONGEST}{'+' * (count > LONGEST + 1)}"] if count > LONGEST else []
    )
    rows = [[*share[:LONGEST], *([share[LONGEST:].sum()] if count > LONGEST else [])] for share in shares.values()]
    step, most = width / len(sizes), max(map(max, rows))
    bar = 0.84 * step / len(rows)
    parts = [word(left + width / 2, 10, name, size=12)]
    for i, (score, row) in enumerate(zip(shares, rows, strict=True)):
        look = f'fill="{FILLS[i]}" stroke="#333"'
        parts.append(f'<rect x="{left + 70 * i}" y="22" width="9" height="9" {look}/>')
        parts.append(word(left + 70 * i + 13, 27, score, "start"))
        for k, share in enumerate(row):
            x, tall = left + (k + 0.08) * step + i * bar, height * share / most
            size = f'width="{bar:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{top + height - tall:.1f}" {size} {look}/>')
    parts += [word(left + (k + 0.5) * step, top + height + 9, size) for k, size in enumerate(sizes)]
    for part in (0.0, 0.5, 1.0):
        parts.append(word(left - 5, top + height * (1 - part), f"{100 * most * part:.0f}", "end"))
    parts.append(f'<path d="M{left} {top}v{height}h{width}"/>')
    parts.append(word(left + width / 2, top + height + 24, "classes in a set"))
    parts.append(upright(10, top + height / 2, "sets (%)", "middle"))
    return picture(left + width + 14, top + height + 34, parts)


def reliability(name: str, bins: np.ndarray, error: float) -> str:
    """bins (n, 3) of metrics.calibration; error: ECE in percent."""
    left, top, width, height = 46, 26, 220, 190

    def at(confidence: float, fraction: float) -> tuple[float, float]:
        return left + width * confidence, top + height * (1 - fraction)

    parts = [word(left + width / 2, 10, f"{name}, ECE {error:.1f} %", size=12)]
    for k, (count, _, correct) in enumerate(bins):
        if count:
            x, y = at(k / len(bins), correct)
            size = f'width="{width / len(bins):.1f}" height="{top + height - y:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="#9ecae1" stroke="#333"/>')
    parts.append(f'<path stroke-dasharray="5 3" d="M{left} {top + height}L{left + width} {top}"/>')
    for count, confidence, correct in bins:
        if count:
            x, y = at(confidence, correct)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
    parts.append(f'<path d="M{left} {top}v{height}h{width}"/>')
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        parts.append(word(x, top + height + 9, f"{tick:g}"))
        parts.append(word(left - 5, y, f"{100 * tick:g}", "end"))
    parts.append(word(left + width / 2, top + height + 24, "confidence"))
    parts.append(upright(10, top + height / 2, "accuracy (%)", "middle"))
    return picture(left + width + 14, top + height + 34, parts)
