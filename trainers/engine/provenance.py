"""What a run's checkpoints were made from: kept beside them, and compared wherever they are used.

A folder whose run differs in anything that matters is refused, so that a record never claims what was not trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from cilmp.clip.backbones import weights_in
from cilmp.errors import UserError, brief
from cilmp.files import sha256, writing
from cilmp.results import records
from cilmp.trainers.engine import parallel
from cilmp.trainers.engine.config import classes_of, differences
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY

NAME = "run.json"
TRAINED = ("SEED", "DATASET.NUM_SHOTS")  # of the prompts, whatever data they are tested on
UNREAD_IN_TESTS = ("PREC", "FORWARD", "DROPOUT")  # of a trainer's block


def identity(cfg: CfgNode) -> dict:
    """{'trainer', 'options' that matter, 'made_from': {what: SHA-256}}; an empty hash is not known (yet)."""
    options = {key: value for key, value in differences(cfg).items() if key not in records.IRRELEVANT}
    if parallel.size() > 1:
        options["processes"] = parallel.size()  # each takes BATCH_SIZE images a step
    return records.plain({"trainer": cfg.TRAINER.NAME, "options": options, "made_from": made_from(cfg)})


def made_from(cfg: CfgNode) -> dict[str, str]:
    """The split, a local file of weights, and what the trainer itself reads (LLM states)."""
    found = {}
    if cfg.DATASET.NAME in DATASET_REGISTRY.registered_names():
        split = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "split_file", None)
        found["split"] = sha256(split(cfg)) if split else ""
    if path := cfg.MODEL.BACKBONE.get("PATH", ""):
        found["backbone"] = sha256(weights_in(Path(path)))
    if path := cfg.MODEL.INIT_WEIGHTS:
        found["start"] = sha256(Path(path))
    own = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "made_from", None)
    return found | (own(cfg) if own else {})


def unlike(asked: dict, there: dict) -> list[str]:
    """What differs between two identities, a line each."""
    keys = (asked["options"].keys() | there["options"].keys()) - records.IRRELEVANT
    told = records.unlike(asked, there, ["trainer"])
    told += records.unlike(asked["options"], there["options"], keys)
    return told + records.remade(asked["made_from"], there["made_from"])


def read(folder: Path) -> dict | None:
    """The identity a folder states, by itself or in its record, and its 'classnames'; None where it states none."""
    path = folder / NAME
    try:
        if not path.is_file():
            return stated(records.read(folder))
        there = json.loads(path.read_text(encoding="utf-8"))
        return {"classnames": []} | there if {"trainer", "options", "made_from"} <= there.keys() else None
    except (UserError, OSError, ValueError, AttributeError):
        return None


def stated(record: dict) -> dict:
    """The identity in a record.  Where prompts of another folder were tested, its classes are not those of training."""
    options, files = record.get("options", {}), record.get("made_from", {})
    names = [] if record.get("model_dir") else list(record.get("per_class", {}))
    return {"trainer": record["trainer"], "options": options, "made_from": files, "classnames": names}


def checkpoints_in(folder: Path) -> bool:
    return any(folder.glob("*/checkpoint")) or any(folder.glob("*/model*.pth.tar*"))


def classnames_in(folder: Path) -> list[str]:
    """Of the classes that a folder's checkpoints were trained on; [] where it does not say."""
    there = read(folder)
    return list(there["classnames"]) if there else []


def claim(cfg: CfgNode, classnames: Sequence[str]) -> None:
    """Before training: refuse to go on from checkpoints of another run, else state in the folder what this one is."""
    asked, own = identity(cfg), Path(cfg.OUTPUT_DIR)
    source = Path(cfg.RESUME or own)
    if checkpoints_in(source):
        there = read(source)
        if there is None and not cfg.RESUME:
            raise UserError(
                f"{source} holds checkpoints and does not say what they were trained with: give another --output-dir, "
                f"delete the folder, or go on from it with --resume {source}."
            )
        if told := unlike(asked, there) if there else []:
            mend = "leave out --resume" if cfg.RESUME else "delete the folder"
            raise UserError(
                f"{source} holds the checkpoints of another run ({brief(told)}): give another --output-dir, or {mend} "
                "to train anew."
            )
    elif cfg.RESUME:
        raise UserError(f"No checkpoint in {source}: check --resume.")
    with writing(own / NAME, mend="check --output-dir") as file:
        json.dump(asked | {"classnames": list(classnames)}, file, indent=1)


def spare_record(cfg: CfgNode) -> None:
    """Refuse to put another run's record into the place of a finished one's."""
    try:
        record = records.read(Path(cfg.OUTPUT_DIR))
    except UserError:  # none, or a damaged one
        return
    if told := unlike(identity(cfg), stated(record)):
        raise UserError(
            f"{cfg.OUTPUT_DIR} holds the record of another run ({brief(told)}): give another --output-dir, or delete "
            "the folder."
        )


def require_trained(cfg: CfgNode, folder: Path) -> None:
    """Before a test of prompts from another folder: they were trained as this run's record will say.

    A seed and a number of shots that this run does not state are theirs.  A folder that states nothing (a reference
    implementation's) is taken as it is.
    """
    there = read(folder)
    if there is None:
        return
    asked = identity(cfg)
    trained, name = there["options"], cfg.TRAINER.NAME
    block = f"TRAINER.{name.upper()}."
    source = trained.get("DATASET.NAME")
    same_images, same_data = source == asked["options"].get("DATASET.NAME"), source == classes_of(cfg)
    kept = (*TRAINED, "DATASET.HELD_BACK") if same_images else TRAINED  # of other images none was trained on
    for key in kept:
        if key not in asked["options"] and key in trained:
            cfg.merge_from_list([key, trained[key]])
            asked["options"][key] = trained[key]
    skipped = tuple(block + option for option in UNREAD_IN_TESTS)
    if cfg.DATASET.CLASSES_OF and source and not same_data:
        raise UserError(
            f"DATASET.CLASSES_OF is {cfg.DATASET.CLASSES_OF}, and the prompts in {folder} were trained on {source}."
        )
    matter = [key for key in sorted(trained.keys() | asked["options"].keys())
              if (key in kept or key.startswith((block, "MODEL.BACKBONE."))) and key not in skipped]  # fmt: skip
    if not same_data:  # another data set has knowledge of its own
        matter = [key for key in matter if key not in (f"{block}REPRESENTATIONS", f"{block}SENTENCES")]
    files = {what: asked["made_from"].get(what, "") for what in ("backbone", *(["knowledge"] if same_data else []))}
    told = records.unlike(asked, there, ["trainer"]) or records.unlike(asked["options"], trained, matter)
    told += records.remade(files, there["made_from"])
    if told:
        raise UserError(
            f"The prompts in {folder} were trained otherwise ({brief(told)}): ask for what they were trained with, or "
            "give another --model-dir."
        )
