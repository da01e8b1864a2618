"""Class probabilities for new images from a finished run, without its data set.

cilmp predict --model-dir output/busi/CILMP/vit_b16_full/seed1 scan1.png scans/ --out probabilities.csv
cilmp predict --model-dir RUN scans/ --calibrated --sets 0.1     after cilmp calibrate RUN (docs/calibration.md)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import writing
from cilmp.images import EXTENSIONS
from cilmp.results import calibration, conformal, metrics, sheets
from cilmp.results.predictions import NAME, VALIDATION, Predictions, tested


class Answer(NamedTuple):
    path: str
    probabilities: np.ndarray  # (C,)
    set: np.ndarray | None = None  # (C,) bool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="+", help="images, and folders to search for images")
    add("--model-dir", required=True, help="folder of the finished run")
    add("--load-epoch", type=int, help="epoch of the checkpoint; default: as `cilmp train`")
    add("--out", default="-", help="file to write, .csv or .json; default: CSV to the standard output")
    add("--calibrated", action="store_true", help="probabilities at the temperature of the run's validation images")
    add("--sets", type=float, metavar="ALPHA", help="a set of classes too that holds the true one but with this chance")
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
    told = validation(Path(args.model_dir), args.load_epoch) if args.calibrated or args.sets is not None else None
    temperature = fitted(told) if args.calibrated else 1.0
    threshold = threshold_of(told, args.sets) if args.sets is not None else None
    with contextlib.redirect_stdout(sys.stderr):  # the engine talks; the standard output is for probabilities
        from cilmp.cache import fingerprint
        from cilmp.restore import restore

        trainer = restore(args.model_dir, args.device, args.load_epoch)
        if told and (told.classnames != trainer.classnames or told.made_by != fingerprint(trainer.model)):
            raise UserError(f"{Path(args.model_dir, VALIDATION)} is of another model: cilmp calibrate {args.model_dir}")
        start = time.perf_counter()
        rows, unreadable = [], []
        for path, logits, error in logits_of(trainer, paths, args.batch_size, args.workers):
            if error:
                unreadable.append(error)
            else:
                rows.append(answer(path, logits, temperature, threshold))
    seconds = time.perf_counter() - start
    write(rows, trainer.classnames, args.out)
    for error in unreadable:
        print(f"error: {error}", file=sys.stderr)
    print(f"{len(rows)} images in {seconds:.2f} s ({len(rows) / seconds:.1f} a second, reading included) on "
          f"{trainer.device}; {len(unreadable)} unreadable", file=sys.stderr)  # fmt: skip
    return 1 if unreadable else 0


def validation(folder: Path, epoch: int | None) -> Predictions:
    """What the run said of its validation images."""
    if epoch is not None:
        raise UserError(
            "--calibrated and --sets answer with the checkpoint that was calibrated: leave --load-epoch out."
        )
    if not (told := Predictions.read(folder, name=VALIDATION)):
        mend = f"cilmp calibrate {folder}"
        if not (folder / NAME).exists():
            mend = f"{tested(folder)}, then `cilmp calibrate NEW`, and predict with --model-dir NEW."
        raise UserError(f"No {VALIDATION} in {folder}, which --calibrated and --sets read: {mend}")
    return told


def fitted(told: Predictions) -> float:
    temperature, why = calibration.temperature(told.logits, told.labels)
    if why:
        raise UserError(f"The validation images set no temperature ({why}): leave --calibrated out.")
    return temperature


def threshold_of(told: Predictions, alpha: float) -> np.ndarray:
    """Of the run's own logits: a temperature fitted on the same images would cost the guarantee."""
    threshold = conformal.of_validation(told.logits, told.labels, alpha)
    print(f"sets by the threshold of {len(told.labels)} validation images", file=sys.stderr)
    if (conformal.lac(told.logits) <= threshold).all():
        print(f"on these images {conformal.EVERY}", file=sys.stderr)
    return threshold


def logits_of(trainer, paths: Sequence[str], batch_size: int, workers: int) -> Iterator[tuple]:
    """(path, logits (C,) or None, error or None) of every image, in order, read as the run's test read."""
    from cilmp.trainers.engine.loading import through

    def infer(image):
        return trainer.model_inference(image).float()

    for path, row, error in through(infer, paths, trainer.cfg, trainer.device, batch_size, workers):
        yield path, None if row is None else row.numpy(), error


def answer(path: str, logits: np.ndarray, temperature: float = 1.0, threshold: np.ndarray | None = None) -> Answer:
    """logits (C,)."""
    probabilities = metrics.softmax(logits[None] / temperature)[0]
    return Answer(path, probabilities, None if threshold is None else conformal.lac(logits[None])[0] <= threshold)


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


def write(rows: Sequence[Answer], names: Sequence[str], out: str) -> None:
    if out == "-":
        return write_csv(rows, names, sys.stdout)
    with writing(out, mend="check --out") as file:
        if out.endswith(".json"):
            json.dump([told(row, names) for row in rows], file, indent=1)
        else:
            write_csv(rows, names, file)


def told(row: Answer, names: Sequence[str]) -> dict:
    found = dict(path=row.path, prediction=names[row.probabilities.argmax()])
    if row.set is not None:
        found["set"] = held(row, names)
    return found | dict(probabilities=dict(zip(names, row.probabilities.tolist(), strict=True)))


def held(row: Answer, names: Sequence[str]) -> list[str]:
    """The classes of a set, the likeliest first."""
    return [names[c] for c in np.argsort(-row.probabilities, kind="stable") if row.set[c]]


def write_csv(rows: Sequence[Answer], names: Sequence[str], file: IO[str]) -> None:
    """A name that a spreadsheet would run gets an apostrophe in front."""
    line = sheets.writer(file)
    sets = any(row.set is not None for row in rows)
    line(["path", "prediction", *(["set"] if sets else []), *names])
    for row in rows:
        mine = ["; ".join(held(row, names))] if sets else []
        line([row.path, names[row.probabilities.argmax()], *mine, *(f"{p:.6g}" for p in row.probabilities)])


if __name__ == "__main__":
    exit_on_user_error(main)
