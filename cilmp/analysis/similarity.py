"""What the prompts of each class say to one image: cosine of image and class prompts, and of the prompts among
themselves. A conditional trainer's prompts are those it makes for that image.

python -m cilmp.analysis.similarity --image scan.png RUN [RUN ...] --out figures/similarity
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from cilmp.analysis import charts
from cilmp.analysis.features import image_features, located
from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import writing
from cilmp.images import read_image
from cilmp.restore import restore
from cilmp.results import sheets
from cilmp.results.tables import printable


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="folders of finished runs")
    add("--image", required=True)
    add("--out", type=Path, default=Path("similarity"), help="name of the figure without suffix")
    add("--device", default="")
    return parser.parse_args(argv)


def similarities(trainer, image: str) -> tuple[np.ndarray, np.ndarray]:
    """(C,) cosines of the image with each class's prompt, (C, C) of the prompts with one another."""
    f = image_features(trainer, [image]).to(trainer.device)
    try:
        with torch.no_grad(), trainer.autocast():
            text = F.normalize(trainer.model.text(f).float(), dim=-1)[0]  # (C, E)
    except NotImplementedError:
        raise UserError(
            f"{type(trainer).__name__} has no class prompts, only a head: choose a prompt learner."
        ) from None
    return (text @ f[0]).cpu().numpy(), (text @ text.T).cpu().numpy()


def draw(image: str, panels: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]]):
    """(trainer, (C,), (C, C), class names) each: a row of bars and a matrix."""
    figure, axes = charts.plt().subplots(len(panels), 3, figsize=(11, 3.4 * len(panels)), squeeze=False)
    picture = np.asarray(read_image(image))
    for (shown, bars, matrix), (title, to_image, between, names) in zip(axes, panels, strict=True):
        shown.imshow(picture)
        shown.set_axis_off()
        shown.set_title(title)
        names = [printable(name) for name in names]
        best = int(to_image.argmax())
        drawn = bars.barh(range(len(names)), to_image, color="#56b4e9", edgecolor="black")
        drawn[best].set_hatch("//")
        bars.set_yticks(range(len(names)), names, fontsize=8)
        bars.invert_yaxis()
        low, high = to_image.min(), to_image.max()
        bars.set_xlim(low - 0.3 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
        bars.set_xlabel("cosine of image and class prompt (hatched: prediction)")
        seen = matrix.imshow(between, cmap="Greys", vmin=min(0.0, between.min()), vmax=1)
        matrix.grid(False)
        matrix.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        matrix.set_yticks([])
        figure.colorbar(seen, ax=matrix, label="cosine of prompts")
    figure.tight_layout()
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    [image] = located([args.image], "")
    panels, lines = [], []
    for folder in args.runs:
        with contextlib.redirect_stdout(sys.stderr):  # the engine talks
            trainer = restore(folder, args.device)
        to_image, between = similarities(trainer, image)
        names = trainer.classnames
        panels.append((type(trainer).__name__, to_image, between, names))
        lines += [
            [folder, type(trainer).__name__, name, x, *row]
            for name, x, row in zip(names, to_image, between, strict=True)
        ]
    files = charts.save(draw(image, panels), args.out)
    table = args.out.with_suffix(".csv")
    with writing(table, mend="check --out") as file:
        write = sheets.writer(file)
        for line in (["run", "trainer", "class", "image", "each prompt, in this order"], *lines):
            write(line)
    print(*files, table, sep="\n")


if __name__ == "__main__":
    exit_on_user_error(main)
