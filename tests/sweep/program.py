"""Stands in for train.py in tests of the sweep: the same command line and record, numbers from the arguments alone."""

import argparse
import os
import sys
import time
import zlib
from pathlib import Path

from cilmp.errors import UserError, exit_on_user_error
from cilmp.results import records


def facts(trainer):
    return {
        "protocols": ["few_shot", "full"]
        if trainer == "LinearProbe"
        else ["base2new", "few_shot", "full", "cross_dataset"]
    }


parser = argparse.ArgumentParser()
for flag in ("--root", "--trainer", "--dataset-config-file", "--config-file", "--output-dir", "--model-dir"):
    parser.add_argument(flag, default="")
parser.add_argument("--seed", type=int)
parser.add_argument("--eval-only", action="store_true")
parser.add_argument("opts", nargs=argparse.REMAINDER)


def main():
    args = parser.parse_args()
    opts = dict(zip(args.opts[::2], args.opts[1::2], strict=True))
    print(f"{args.trainer} starts")
    (Path(args.output_dir) / "prompt_learner").mkdir(parents=True, exist_ok=True)
    checkpoint = Path(args.output_dir, "prompt_learner", "model")
    if checkpoint.exists():
        raise UserError("a killed run's checkpoint is still here")
    if args.eval_only and not Path(args.model_dir, "prompt_learner", "model").exists():
        raise UserError(f"No checkpoint in {args.model_dir}")
    checkpoint.write_text("half")
    time.sleep(float(opts.get("SLEEP", 0.05)))
    if opts.get("FAIL") == args.trainer:
        raise UserError(f"{args.trainer} fails as asked")
    shots, classes = int(opts["DATASET.NUM_SHOTS"]), opts["DATASET.SUBSAMPLE_CLASSES"]
    luck = zlib.crc32(f"{args.trainer} {args.dataset_config_file} {args.seed} {shots} {classes}".encode()) % 4000 / 100
    record = dict(version=1, trainer=args.trainer, dataset=Path(args.dataset_config_file).stem.upper(), split="test")
    record |= dict(config=Path(args.config_file).stem)
    record |= dict(backbone="tiny", classes=classes, shots=shots, seed=args.seed, options={}, per_class={})
    record |= dict(metrics={"accuracy": 50 + luck}, seconds={"total": 0.05}, model_dir=args.model_dir, pid=os.getpid())
    records.write(Path(args.output_dir, records.NAME), record)


if __name__ == "__main__":
    exit_on_user_error(main)
    sys.exit(1)
