"""Stands in for train.py in tests of the sweep: the same command line and record, numbers from the arguments alone.

A run takes STEPS steps, each with a checkpoint where TRAIN.CHECKPOINT_FREQ is given; SLEEP is how long it takes.
"""

import argparse
import os
import sys
import time
import zlib
from pathlib import Path

from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import write_text
from cilmp.results import records

STEPS = 4


def facts(trainer):
    return {
        "protocols": ["few_shot", "full", "domain_generalisation"]
        if trainer == "LinearProbe"
        else ["base2new", "few_shot", "full", "cross_dataset", "domain_generalisation"]
    }


parser = argparse.ArgumentParser()
for flag in ("--root", "--trainer", "--dataset-config-file", "--config-file", "--output-dir", "--model-dir"):
    parser.add_argument(flag, default="")
parser.add_argument("--seed", type=int)
parser.add_argument("--eval-only", action="store_true")
parser.add_argument("opts", nargs=argparse.REMAINDER)


def parse_args():
    return parser.parse_args()


def build_cfg(args):
    return dict(zip(args.opts[::2], args.opts[1::2], strict=True))


def differences(cfg):
    return {key: value for key, value in cfg.items() if key not in ("SLEEP", "FAIL")}


def main():
    args = parse_args()
    opts = build_cfg(args)
    print(f"{args.trainer} starts")
    checkpoint = Path(args.output_dir, "prompt_learner", "model")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    steps = [int(word) for word in checkpoint.read_text().split()] if checkpoint.exists() else []
    if steps and "TRAIN.CHECKPOINT_FREQ" not in opts:
        raise UserError("a killed run's checkpoint is still here")
    if args.eval_only and not Path(args.model_dir, "prompt_learner", "model").exists():
        raise UserError(f"No checkpoint in {args.model_dir}")
    shots, classes = int(opts["DATASET.NUM_SHOTS"]), opts["DATASET.SUBSAMPLE_CLASSES"]
    told = f"{args.trainer} {args.dataset_config_file} {args.seed} {shots} {classes} {opts.get('OPTIM.LR')}"
    for step in range(len(steps), STEPS):
        steps.append(zlib.crc32(f"{told} {step}".encode()) % 4000)
        write_text(checkpoint, " ".join(map(str, steps)))
        time.sleep(float(opts.get("SLEEP", 0.05)) / STEPS)
    if opts.get("FAIL") == args.trainer:
        raise UserError(f"{args.trainer} fails as asked")
    record = dict(version=1, trainer=args.trainer, dataset=Path(args.dataset_config_file).stem.upper(), split="test")
    record |= dict(config=Path(args.config_file).stem, options=differences(opts))
    record |= dict(backbone="tiny", classes=classes, shots=shots, seed=args.seed, per_class={})
    record |= dict(metrics={"accuracy": 50 + sum(steps) / STEPS / 100}, seconds={"total": 0.05})
    record |= dict(model_dir=args.model_dir, pid=os.getpid(), processes=os.environ.get("WORLD_SIZE"))
    records.write(Path(args.output_dir, records.NAME), record)


if __name__ == "__main__":
    exit_on_user_error(main)
    sys.exit(1)
