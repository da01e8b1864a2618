"""Cost of each trainer on the ADAM setting (the paper's Figure 4): 2 classes, ViT-B/16, LLaMA3-8B's 32 x 4096 states.

python -m cilmp.analysis.flops --out figures/flops

Counted by torch.utils.flop_counter for one image: a forward pass with the class prompts encoded, and a training step
(forward and backward), through the reference's full computation (literal) and the exact fast path. Weights are random.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import torch

import cilmp.trainers  # noqa: F401  registers them
from cilmp.analysis import charts
from cilmp.clip import tiny
from cilmp.clip.model import CLIP
from cilmp.clip.tokenizers import word_pieces
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.errors import exit_on_user_error
from cilmp.files import writing
from cilmp.trainers.engine.config import trainers
from cilmp.trainers.engine.flops import cost
from cilmp.trainers.method import Method, Task
from dassl.engine import TRAINER_REGISTRY

CLASSES = ("normal fundus", "fundus with age-related macular degeneration")
SAID = 50  # sentences of a class, as BiomedCoOp
STATES = 32, 4096


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("flops"), help="name of the figure without suffix")
    parser.add_argument("--trainers", nargs="+", default=trainers(), choices=trainers())
    parser.add_argument("--classes", nargs="+", default=list(CLASSES), help="other class names")
    return parser.parse_args(argv)


def vit_b16() -> CLIP:
    """ViT-B/16 with random weights."""
    torch.manual_seed(0)
    clip = CLIP(ImageTower(224, 16, 768, 12, 12, 512), TextTower(512, 12, 8, 77, 512), 49408)
    return clip.eval().requires_grad_(False)


def biomedclip(words: Sequence[str]) -> CLIP:
    """A random CLIP of BiomedCLIP's size: ViT-B/16 and BERT base, which knows each of the words as one piece."""
    image = ImageTower(224, 16, 768, 12, embed=512, **tiny.IMAGE | dict(heads=12))
    text = TextTower(768, 12, context=256, embed=512, **tiny.TEXT | dict(heads=12))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "x", *dict.fromkeys(words)]
    clip = CLIP(image, text, 30522, word_pieces(vocabulary, 256))
    return clip.eval().requires_grad_(False)


def build(name: str, clip: CLIP, classnames: Sequence[str], states: tuple[int, int] = STATES) -> Method:
    """A trainer's method on this CLIP, with its own defaults and the usual four words of context."""
    kind = TRAINER_REGISTRY.get(name)
    words = {"CTX_INIT": "a photo of a"} if "CTX_INIT" in kind.defaults else {}
    sentences = [[f"a photo of a {name}."] * SAID for name in classnames] if "SENTENCES" in kind.defaults else None
    task = Task(classnames, states=[torch.randn(states) for _ in classnames], sentences=sentences)
    return kind.build(clip, task, **words)


def measure(names: Sequence[str], classnames: list[str]) -> list[dict]:
    """One row a trainer: GFLOPs of both steps on both paths, and trained parameters."""
    clip, rows = vit_b16(), []
    for name in names:
        model = build(name, clip, classnames)
        row = dict(trainer=name, parameters=sum(p.numel() for p in model.parameters() if p.requires_grad))
        for model.literal in (True, False):
            path = "literal" if model.literal else "fast"
            for part, gflops in cost(model, TRAINER_REGISTRY.get(name).steps).items():
                row[f"{part} {path}"] = gflops
        rows.append(row)
    return rows


def draw(rows: Sequence[dict], classes: int):
    figure, (work, size) = charts.plt().subplots(1, 2, figsize=(9.5, 3.8), width_ratios=(3, 2))
    kinds = ("forward literal", "forward fast", "step literal", "step fast")
    for i, kind in enumerate(kinds):
        place = [j + (i - 1.5) * 0.2 for j in range(len(rows))]
        look = dict(color=charts.COLOURS[i], hatch=charts.HATCHES[i], edgecolor="white", label=kind)
        work.bar(place, [row[kind] or 0 for row in rows], 0.2, **look)
    work.set_xticks(range(len(rows)), [row["trainer"] for row in rows], rotation=20)
    work.set_ylabel(f"GFLOP an image ({classes} classes)")
    work.legend(frameon=False)
    size.bar(range(len(rows)), [row["parameters"] for row in rows], color="#999999", edgecolor="black")
    size.set_yscale("symlog", linthresh=100)
    size.set_xticks(range(len(rows)), [row["trainer"] for row in rows], rotation=20)
    size.set_ylabel("trained parameters")
    for ax in (work, size):
        ax.grid(axis="x", visible=False)
    figure.tight_layout()
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    from tabulate import tabulate

    args = parse_args(argv)
    rows = measure(args.trainers, args.classes)
    files = charts.save(draw(rows, len(args.classes)), args.out)
    table = args.out.with_suffix(".csv")
    with writing(table, mend="check --out") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(tabulate(rows, headers="keys", floatfmt=".2f", intfmt=",", missingval="-"))
    print(*files, table, sep="\n")


if __name__ == "__main__":
    exit_on_user_error(main)
