"""A finished run's trainer again, from its record and checkpoint, without its data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cilmp.trainers  # noqa: F401  registers the trainers
from cilmp.clip.backbones import weights_in
from cilmp.errors import UserError, nearest
from cilmp.files import sha256
from cilmp.results import records
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.config import assign, default_cfg, flatten
from dassl.engine import TRAINER_REGISTRY


def config(record: dict):
    """The run's cfg: the defaults and what the record says differs from them."""
    cfg = default_cfg()
    known = flatten(cfg)
    for key, value in record.get("options", {}).items():
        if key not in known:
            raise UserError(f"The run's option {key} does not exist any more.{nearest(key, known)}")
        assign(cfg, key, tuple(value) if isinstance(known[key], tuple) else value)
    cfg.TRAINER.NAME = record["trainer"]
    return cfg


def restore(
    folder: str | Path, device: str = "", epoch: int | None = None, classnames: Sequence[str] | None = None
) -> CLIPTrainer:
    """The trainer in eval mode, with `cfg`, `classnames` in label order, `device` and model_inference().

    device: '' is a GPU where there is one.  classnames: other ones than the run's, which a prompt learner may be given.
    """
    folder = Path(folder)
    record = records.read(folder)
    names = list(classnames or record.get("per_class", {}))
    if not names:
        raise UserError(f"The record in {folder} does not name its classes: run it again with this version.")
    if record["trainer"] not in TRAINER_REGISTRY.registered_names():
        raise UserError(f"The run in {folder} is of trainer '{record['trainer']}', which is not installed here.")
    kind = TRAINER_REGISTRY.get(record["trainer"])
    if not issubclass(kind, CLIPTrainer):
        raise UserError(f"The run in {folder} is of trainer '{record['trainer']}', which is not one of this toolbox.")
    require_same_backbone(folder, record)
    trainer = kind(config(record), names, device)
    require_same_knowledge(folder, record, getattr(trainer, "knowledge", None))
    trainer.load_model(str(checkpoint(folder, record)), epoch=epoch)
    trainer.set_model_mode("eval")
    return trainer


def require_same_backbone(folder: Path, record: dict) -> None:
    """Prompts on other weights than theirs give other answers in silence; a shared run does not bring local ones."""
    then, path = record.get("made_from", {}).get("backbone"), record.get("options", {}).get("MODEL.BACKBONE.PATH", "")
    if then and not path:
        raise UserError(
            f"The run in {folder} was made on local weights (SHA-256 {then}), which did not come with it: fetch it by "
            "`cilmp hub pull` with --backbone FILE."
        )
    if then and (now := sha256(weights_in(Path(path)))) and now != then:
        raise UserError(f"The run in {folder} was made on other weights than {path} now holds: put the old file back.")


def require_same_knowledge(folder: Path, record: dict, now: dict | None) -> None:
    """The prompts were trained on one file of LLM states: another one gives other answers in silence."""
    then = record.get("knowledge") or {}
    if now and then.get("sha256") and now["sha256"] != then["sha256"]:
        raise UserError(
            f"The run in {folder} was trained with {then.get('source')} as {then.get('model') or 'another LLM'} made "
            f"it, and {now['source']} is now of {now.get('model') or 'another one'}: put the old file back."
        )


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
