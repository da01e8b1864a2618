"""Train and test one trainer on one data set; CoOp's command line.

cilmp train --root DATA --seed 1 --trainer CILMP --dataset-config-file configs/datasets/busi.yaml
    --config-file configs/trainers/CILMP/vit_b16.yaml --output-dir output/busi  DATASET.NUM_SHOTS 16

A config is the path of a yaml, or the name of one that ships with the toolbox: here busi and vit_b16 would do.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")

import torch  # noqa: E402

import cilmp.datasets  # noqa: E402, F401  registers the data sets
import cilmp.trainers  # noqa: E402, F401  registers the trainers
import dassl.utils  # noqa: E402
from cilmp.errors import UserError, exit_on_user_error, of_a_file  # noqa: E402
from cilmp.results import predictions, records  # noqa: E402
from cilmp.trainers.engine import parallel, provenance  # noqa: E402
from cilmp.trainers.engine.config import build_cfg, differences, facts, trainers  # noqa: E402, F401  a sweep asks
from cilmp.trainers.engine.provenance import made_from  # noqa: E402, F401  a sweep asks
from cilmp.trainers.engine.report import describe, save_predictions  # noqa: E402
from dassl.engine import build_trainer  # noqa: E402
from dassl.utils import collect_env_info, set_random_seed, setup_logger  # noqa: E402

# the user's mistakes as dassl-compat names them; the original Dassl has no such classes
MISTAKES = tuple(getattr(dassl.utils, name) for name in ("SettingError", "BrokenImage") if hasattr(dassl.utils, name))

# what PyTorch says where the machine fails it, and the mend
MACHINE = {
    "shared memory": "give the container more of it (docker run --shm-size 2g) or use DATALOADER.NUM_WORKERS 0",
    "inline_container": "is the disk of --output-dir full or read-only?",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", default="", help="folder that holds the data sets")
    add("--output-dir", default="", help="folder of this run: log, checkpoints, result.json")
    add("--resume", default="", help="folder of checkpoints to go on from (default: the output folder's own)")
    add("--seed", type=int, default=None, help="seed of everything random; also selects the few-shot images")
    add("--source-domains", nargs="+", help="source domains, for data sets that have them")
    add("--target-domains", nargs="+", help="target domains, for data sets that have them")
    add("--transforms", nargs="+", help="augmentations")
    add("--config-file", default="", help="the trainer's yaml, or the name of a shipped one")
    add("--dataset-config-file", default="", help="the data set's yaml, or the name of a shipped one")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="CLIP: an OpenAI name, tiny, or hf:<repository or folder>")
    add("--head", default="", help="name of the head, for Dassl's own trainers")
    add("--eval-only", action="store_true", help="only test")
    add("--model-dir", default="", help="run folder to load prompts from")
    add("--load-epoch", type=int, help="epoch of the checkpoint to load (default: best on validation, else last)")
    add("--no-train", action="store_true", help="build everything, then stop")
    add("opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs that override the config")
    return parser.parse_args()


def main() -> None:
    args, start = parse_args(), time.time()
    cfg = build_cfg(args)
    parallel.start()
    if cfg.DATASET.CLASSES_OF and not args.eval_only:
        raise UserError("DATASET.CLASSES_OF is for tests of what another data set taught: use --eval-only --model-dir.")
    given = args.model_dir or (cfg.MODEL.INIT_WEIGHTS and Path(cfg.MODEL.INIT_WEIGHTS).absolute().parent.parent)
    prompts = Path(given) if args.eval_only and given else None
    if prompts:
        cfg.defrost()
        provenance.require_trained(cfg, prompts)
        cfg.freeze()
    done = Path(cfg.OUTPUT_DIR, records.NAME)
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    if parallel.rank() == 0:
        setup_logger(cfg.OUTPUT_DIR)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    if cfg.VERBOSE:
        print(f"** Config **\n{cfg}\n** Environment **\n{collect_env_info()}\n")

    trainer = build_trainer(cfg)
    seconds = {}
    if args.no_train:
        return
    if args.eval_only and not (args.model_dir or cfg.MODEL.INIT_WEIGHTS) and getattr(trainer, "_models", None):
        raise UserError(
            f"--eval-only tests what {cfg.TRAINER.NAME} has learned: name its run's folder as --model-dir, or a file "
            "as MODEL.INIT_WEIGHTS."
        )
    if parallel.rank() == 0:
        provenance.spare_record(cfg)
        if not args.eval_only:
            provenance.claim(cfg, getattr(trainer, "classnames", ()))
        # the record is the done mark: this run is not done, nor is what was said before what it will say
        for path in (done, done.with_name(predictions.NAME), done.with_name(predictions.VALIDATION)):
            path.unlink(missing_ok=True)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    else:
        trainer.train()
    if cfg.TEST.NO_TEST or parallel.rank():
        return
    seconds["total"] = time.time() - start
    if cfg.TEST.SAVE_PREDICTIONS:
        save_predictions(trainer, Path(cfg.OUTPUT_DIR))
    record = describe(trainer, cfg, seconds, config=Path(args.config_file).stem, model_dir=args.model_dir)
    print(f"Result: {records.write(done, record)}")


def guarded() -> None:
    """The failures a user can cause deep inside the engine, each as one line."""
    try:
        main()
    except FloatingPointError as error:
        raise UserError(f"{error} Try TRAINER.<NAME>.PREC fp32 or amp, or a lower OPTIM.LR.") from None
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            "Out of GPU memory: lower DATALOADER.TRAIN_X.BATCH_SIZE or DATALOADER.TEST.BATCH_SIZE, or use PREC fp16."
        ) from None
    except OSError as error:
        mend = "check --output-dir, --root and, where no --root is given, the home folder"
        raise UserError(f"{of_a_file(error)}: {mend}.") from None
    except RuntimeError as error:
        mends = [mend for sign, mend in MACHINE.items() if sign in str(error)]
        if not mends:
            raise
        raise UserError(f"{str(error).splitlines()[0]}: {mends[0]}.") from None
    except MISTAKES as error:
        raise UserError(str(error)) from None
    finally:
        parallel.stop()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    exit_on_user_error(guarded)
