"""Class probabilities for new images from a finished run, without its data set.

cilmp predict --model-dir output/busi/CILMP/vit_b16_full/seed1 scan1.png scans/ --out probabilities.csv
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import writing
from cilmp.images import EXTENSIONS
from cilmp.results import sheets


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="+", help="images, and folders to search for images")
    add("--model-dir", required=True, help="folder of the finished run")
    add("--load-epoch", type=int, help="epoch of the checkpoint; default: as `cilmp train`")
    add("--out", default="-", help="file to write, .csv or .json; default: CSV to the standard output")
    add("--batch-size", type=int, default=32)
    add("--workers", type=int, default=0, help="processes that read images")
    add("--device", default="", help="cpu, cuda, cuda:1, mps; default: a GPU where there is one")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.batch_size < 1:
        raise UserError(f"--batch-size is {args.batch_size}: give 1 or more.")
    if args.out != "-" and Path(args.out).suffix not in (".csv", ".json"):
        raise UserError(f"--out {args.out}: the name ends in .csv or .json.")
    paths = find(args.images)
    with contextlib.redirect_stdout(sys.stderr):  # the engine talks; the standard output is for probabilities
        from cilmp.restore import restore

        trainer = restore(args.model_dir, args.device, args.load_epoch)
        start = time.perf_counter()
        rows, unreadable = [], []
        for path, probabilities, error in probabilities_of(trainer, paths, args.batch_size, args.workers):
            if error:
                unreadable.append(error)
            else:
                rows.append((path, probabilities))
    seconds = time.perf_counter() - start
    write(rows, trainer.classnames, args.out)
    for error in unreadable:
        print(f"error: {error}", file=sys.stderr)
    print(f"{len(rows)} images in {seconds:.2f} s ({len(rows) / seconds:.1f} a second, reading included) on "
          f"{trainer.device}; {len(unreadable)} unreadable", file=sys.stderr)  # fmt: skip
    return 1 if unreadable else 0


def probabilities_of(trainer, paths: Sequence[str], batch_size: int, workers: int) -> Iterator[tuple]:
    """(path, probabilities (C,) or None, error or None) of every image, in order, read as the run's test read."""
    from cilmp.trainers.engine.loading import through

    def softmax(image):
        return trainer.model_inference(image).double().softmax(-1)

    for path, row, error in through(softmax, paths, trainer.cfg, trainer.device, batch_size, workers):
        yield path, None if row is None else row.tolist(), error


def find(given: Sequence[str]) -> list[str]:
    """Images named, and in order those below the folders named."""
    paths = []
    for name in given:
        place = Path(name)
        if place.is_dir():
            inside = sorted(str(p) for p in place.rglob("*") if p.suffix.lower() in EXTENSIONS)
            if not inside:
                raise UserError(f"No image in {place} (looked for {', '.join(sorted(EXTENSIONS))}).")
            paths += inside
        elif place.exists():
            paths.append(name)
        else:
            raise UserError(f"No image or folder at {place}.")
    return paths


def write(rows: Sequence[tuple[str, list[float]]], names: Sequence[str], out: str) -> None:
    if out == "-":
        return write_csv(rows, names, sys.stdout)
    with writing(out, mend="check --out") as file:
        if out.endswith(".json"):
            told = [
                dict(path=p, prediction=names[top(x)], probabilities=dict(zip(names, x, strict=True))) for p, x in rows
            ]
            json.dump(told, file, indent=1)
        else:
            write_csv(rows, names, file)


def write_csv(rows: Sequence[tuple[str, list[float]]], names: Sequence[str], file: IO[str]) -> None:
    """A name that a spreadsheet would run gets an apostrophe in front."""
    line = sheets.writer(file)
    line(["path", "prediction", *names])
    for path, x in rows:
        line([path, names[top(x)], *(f"{p:.6g}" for p in x)])


def top(x: Sequence[float]) -> int:
    return max(range(len(x)), key=x.__getitem__)


if __name__ == "__main__":
    exit_on_user_error(main)
