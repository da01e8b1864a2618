"""t-SNE of image features on the test split, one panel a run (the paper's Figure 5); PNG, SVG and coordinates as CSV.

python -m cilmp.analysis.tsne RUN [RUN ...] --out figures/tsne
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cilmp.analysis import charts
from cilmp.analysis.features import image_features, tested
from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import writing
from cilmp.restore import restore
from cilmp.results import records, sheets


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="folders of finished runs with predictions.npz")
    add("--out", type=Path, default=Path("tsne"), help="name of the figure without suffix")
    add("--root", default="", help="where images are that are not at the path their run saw")
    add("--perplexity", type=float, default=30.0)
    add("--seed", type=int, default=0)
    add("--device", default="")
    return parser.parse_args(argv)


def embed(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """(N, E) -> (N, 2). van der Maaten and Hinton, JMLR 9 (2008)."""
    from sklearn.manifold import TSNE

    if len(features) < 4:
        raise UserError(f"t-SNE of {len(features)} images tells nothing: give a run with a larger test split.")
    perplexity = min(perplexity, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed).fit_transform(features)


def draw(panels: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]]):
    """(title, coordinates (N, 2), labels (N,), class names) each; classes differ in colour and marker."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = charts.plt().subplots(rows, columns, figsize=(3.6 * columns, 3.6 * rows), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    names: dict[str, int] = {}
    for ax, (title, points, labels, classnames) in zip(axes.flat, panels, strict=False):
        for label, name in enumerate(classnames):
            look = charts.style(names.setdefault(name, len(names)))
            here = points[labels == label]
            ax.plot(*here.T, look["marker"], color=look["color"], ms=3.5, mew=0, alpha=0.8, label=charts.entry(name))
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
    handles = {h.get_label(): h for ax in axes.flat for h in ax.get_lines()}
    figure.legend(
        handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4, frameon=False
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    panels, lines = [], []
    for folder in args.runs:
        record = records.read(folder)
        paths, labels, names = tested(folder, args.root)
        with contextlib.redirect_stdout(sys.stderr):  # the engine talks
            trainer = restore(folder, args.device)
        points = embed(image_features(trainer, paths).numpy(), args.perplexity, args.seed)
        title = record["trainer"] if len(args.runs) > 1 else f"{record['trainer']}, {record['dataset']}"
        panels.append((title, points, labels, names))
        rows = zip(paths, labels, points.tolist(), strict=True)
        lines += [[folder, record["trainer"], path, names[label], *xy] for path, label, xy in rows]
    files = charts.save(draw(panels), args.out)
    table = args.out.with_suffix(".csv")
    with writing(table, mend="check --out") as file:
        write = sheets.writer(file)
        for line in (["run", "trainer", "path", "class", "x", "y"], *lines):
            write(line)
    print(*files, table, sep="\n")


if __name__ == "__main__":
    exit_on_user_error(main)
