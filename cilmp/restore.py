"""A finished run's trainer again, from its record and checkpoint, without its data set.

A program's tool, as train.py is one: it knows trainers and Dassl, which it imports when it is called.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from cilmp import records
from cilmp.errors import UserError, nearest


def config(record: dict):
    """The run's cfg: the defaults and what the record says differs from them."""
    from cilmp.trainers.config import default_cfg, flatten

    cfg = default_cfg()
    known = flatten(cfg)
    for key, value in record.get("options", {}).items():
        if key not in known:
            raise UserError(f"The run's option {key} does not exist any more.{nearest(key, known)}")
        *path, last = key.split(".")
        node = cfg
        for name in path:
            node = node[name]
        node[last] = type(known[key])(value) if isinstance(known[key], tuple) else value
    cfg.TRAINER.NAME = record["trainer"]
    return cfg


def restore(folder: str | Path, device: str = "", epoch: int | None = None, classnames: list[str] | None = None):
    """-> (trainer, its cfg, class names in label order). The trainer has model, device and model_inference().

    device: '' is a GPU where there is one. classnames: other ones than the run's, which a prompt learner may be given.
    """
    import cilmp.trainers  # noqa: F401  registers the trainers
    from cilmp.devices import choose
    from dassl.engine import TRAINER_REGISTRY
    from dassl.engine.trainer import TrainerBase

    folder = Path(folder)
    record = records.read(folder)
    cfg = config(record)
    names = classnames or list(record.get("per_class", {}))
    if not names:
        raise UserError(f"The record in {folder} does not name its classes: run it again with this version.")
    if record["trainer"] not in TRAINER_REGISTRY.registered_names():
        raise UserError(f"The run in {folder} is of trainer '{record['trainer']}', which is not installed here.")
    place = choose(device, cfg.USE_CUDA)

    kind = TRAINER_REGISTRY.get(record["trainer"])
    trainer = kind.__new__(kind)
    TrainerBase.__init__(trainer)  # a trainer's own __init__ would load the data set
    trainer.cfg, trainer.device, trainer.output_dir = cfg, place, cfg.OUTPUT_DIR
    trainer.start_epoch = trainer.epoch = 0
    trainer.max_epoch, trainer.num_classes = cfg.OPTIM.MAX_EPOCH, len(names)
    trainer.lab2cname = dict(enumerate(names))
    trainer.dm = SimpleNamespace(
        dataset=SimpleNamespace(classnames=names), num_classes=len(names), lab2cname=trainer.lab2cname
    )
    trainer.build_model()
    trainer.load_model(str(checkpoint(folder, record)), epoch=epoch)
    trainer.set_model_mode("eval")
    return trainer, cfg, names


def checkpoint(folder: Path, record: dict) -> Path:
    """The run's own folder; of a test-only run, the folder it was given (also where both moved together)."""
    trained = Path(record.get("model_dir") or folder)
    if trained == folder or trained.is_dir():
        return trained
    for above in folder.resolve().parents:
        for tail in range(1, len(trained.parts) + 1):
            moved = above.joinpath(*trained.parts[-tail:])
            if tail > 1 and moved.is_dir():
                return moved
    raise UserError(f"The run in {folder} was tested with the prompts of {trained}, which is not there any more.")
