"""Calibration of finished runs, after training: a temperature from their validation images, and prediction sets.

cilmp calibrate output/busi/CILMP/vit_b16_16shots/seed1 --alpha 0.1     docs/calibration.md says what the numbers are

What a run says of its validation images is kept beside its predictions, for `cilmp predict --calibrated --sets`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cilmp.errors import UserError, exit_on_user_error
from cilmp.results import calibration, conformal, records
from cilmp.results.predictions import VALIDATION, Predictions
from cilmp.results.runs import drawn
from cilmp.results.tables import FORMATS, Listing, Table

NEAR = 0.2  # between two logits of one model: half precision at CLIP's scale of 100
HALVES = 100
LOOKED_AT = 8  # test images that tell whether it is the model that was tested


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    add("--alpha", type=float, default=0.1, help="of prediction sets: the chance that one lacks the true class")
    add("--root", default="", help="where the data are, if not where the run found them")
    add("--device", default="", help="cpu, cuda, cuda:1, mps; default: a GPU where there is one")
    add("--format", choices=FORMATS, default="text")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    for folder in args.runs:
        record, test = records.read(folder), Predictions.need(folder)
        if record.get("split") == "val":
            raise UserError(f"The run in {folder} was tested on its validation images: calibrate one of its test.")
        conformal.rank_of_half(len(test.labels), args.alpha)
        with contextlib.redirect_stdout(sys.stderr):  # the engine talks; the standard output is for tables
            told, notes = said_of_validation(folder, record, test, args.root, args.device)
        told.write(folder, VALIDATION)
        held = record.get("options", {}).get("DATASET.HELD_BACK", 0)
        source = f"{len(told.labels)} {'held-back training' if held else 'validation'} images"
        shots = drawn(record["shots"])
        of = f"{record['trainer']} on {record['dataset']}, {record['classes']} classes, {shots}, seed {record['seed']}"
        tables = [temperature(of, source, told, test, notes), *sets(source, told, test, args.alpha)]
        print("\n".join(table.render(args.format) for table in tables))


def said_of_validation(
    folder: Path, record: dict, test: Predictions, root: str, device: str
) -> tuple[Predictions, list[str]]:
    """The run's answers to the validation images that it was given, or held back, and what speaks against them;
    UserError where it had none."""
    import cilmp.datasets  # noqa: F401  registers them
    from cilmp.cache import fingerprint
    from cilmp.restore import config, restore
    from cilmp.trainers.engine.provenance import made_from
    from cilmp.trainers.features import FeatureTrainer
    from dassl.data.datasets import build_dataset

    cfg = config(record)
    if root:
        cfg.DATASET.ROOT = root
    dataset = build_dataset(cfg)
    if not dataset.val:
        raise UserError(
            f"The run in {folder} has no validation images to calibrate on, and its training images tell nothing any "
            "more: use a split file with a list 'val', or train with DATASET.HELD_BACK 0.25."
        )
    if changed := records.remade(made_from(cfg), record.get("made_from", {})):
        raise UserError(f"The run in {folder} was made from other files ({', '.join(changed)}): put the old ones back.")
    trainer = restore(folder, device)
    some = np.unique(np.linspace(0, len(dataset.test) - 1, LOOKED_AT).astype(int))
    shape = len(dataset.test), len(dataset.classnames)
    if shape != test.logits.shape or gap(trainer, [dataset.test[i] for i in some], test.logits[some]) > NEAR:
        raise UserError(f"The run in {folder} does not answer as in its test (another checkpoint?): test it again.")
    chose = isinstance(trainer, FeatureTrainer) or cfg.TEST.FINAL_MODEL == "best_val"
    notes = ["The run may have chosen on these images too, and then does a little better on them than on others."]
    labels = np.array([item.label for item in dataset.val])
    paths = [item.impath for item in dataset.val]
    answers = logits(trainer, dataset.val)
    told = Predictions(answers, labels, paths, list(dataset.classnames), made_by=fingerprint(trainer.model))
    return told, notes if chose else []


def logits(trainer, items: Sequence) -> np.ndarray:
    """Of Dassl's Datums: (N, C)."""
    from cilmp.predict import logits_of

    loader = trainer.cfg.DATALOADER
    rows = []
    for _, row, error in logits_of(
        trainer, [item.impath for item in items], loader.TEST.BATCH_SIZE, loader.NUM_WORKERS
    ):
        if row is None:
            raise UserError(str(error))
        rows.append(row)
    return np.stack(rows)


def gap(trainer, items: Sequence, saved: np.ndarray) -> float:
    """Largest difference of logits (N, C) now and in the test."""
    return float(np.abs(logits(trainer, items) - saved).max())


def temperature(of: str, source: str, told: Predictions, test: Predictions, notes: Sequence[str]) -> Table:
    """Fitted on what was told of validation, measured on the test."""
    found, why = calibration.temperature(told.logits, told.labels)
    before, after = (calibration.measures(test.logits / t, test.labels) for t in (1.0, found))
    if why:
        verdict = f"No temperature: {why}. The probabilities stay as they are."
    elif after[0] < before[0]:
        verdict = f"The temperature lowers the NLL of the test images by {before[0] - after[0]:.4f}."
    else:
        verdict = f"The temperature does NOT lower the NLL of the test images: it rises by {after[0] - before[0]:.4f}."
    measured = f"Measured on {len(test.labels)} test images. NLL in nats, ECE in %, Brier from 0 to 2."
    rows = [(("before", "1.000"), before), (("after", f"{found:.3f}"), after)]
    title = f"{of}: temperature from {source}"
    return Listing(title, ["", "T"], calibration.MEASURES, rows, notes=[verdict, *notes, measured])


def sets(source: str, told: Predictions, test: Predictions, alpha: float) -> list[Table]:
    """Sets from random halves of the test images, and from the validation images as `predict --sets` makes them."""
    rows, per_class, scores = [], [], conformal.scores(test.logits)
    for name in scores:
        found = conformal.resampled(scores[name], test.labels, alpha, HALVES)
        low, high = found.band
        inside = int(((found.coverage >= low) & (found.coverage <= high)).sum())
        rows.append(
            (("test halves", name), [*row(found), f"{100 * low:.1f} to {100 * high:.1f}", f"{inside} of {HALVES}"])
        )
        per_class.append(100 * found.per_class)
    n = len(test.labels) // 2
    notes = [
        f"test halves: {HALVES} times {n} random test images set the threshold and the rest, {len(test.labels) - n}, "
        "are tested",
        "band: where 95 % of such halves fall, whatever the model; inside: how many did",
    ]
    try:
        threshold = conformal.of_validation(told.logits, told.labels, alpha)
    except UserError as error:
        notes.append(f"No sets from {source}: {error}")
    else:
        every = np.ones((1, len(test.labels)), bool)
        found = conformal.tested(scores["LAC"], test.labels, np.array([threshold]), every)
        rows.append(((source, "LAC"), [*row(found), "", ""]))
    notes += [f"{' '.join(of)}: {conformal.EVERY}" for of, (_, size, *_) in rows if size == len(test.classnames)]
    lines = [((name,), list(values)) for name, values in zip(test.classnames, np.transpose(per_class), strict=True)]
    title = f"Prediction sets, alpha {alpha:g} (coverage {100 * (1 - alpha):g} % or more)"
    columns = ["coverage %", "mean size", "lowest class %", "band %", "inside"]
    return [
        Listing(title, ["threshold from", "score"], columns, rows, notes=notes),
        Listing("Coverage of each class, %, over the test halves", ["class"], list(scores), lines),
    ]


def row(found: conformal.Sets) -> list:
    return [100 * float(found.coverage.mean()), float(found.size.mean()), 100 * float(np.nanmin(found.per_class))]


if __name__ == "__main__":
    exit_on_user_error(main)
