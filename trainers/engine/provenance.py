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
from cilmp.trainers.engine.config import differences
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
    own = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "made_from", None)
    return found | (own(cfg) if own else {})


def unlike(asked: dict, there: dict) -> list[str]:
    """'KEY x there, y asked' for whatever differs; a hash that either side does not know tells nothing."""
    told = []
    if asked["trainer"] != there["trainer"]:
        told.append(f"trainer {there['trainer']} there, {asked['trainer']} asked")
    a, b = ({k: v for k, v in side["options"].items() if k not in records.IRRELEVANT} for side in (asked, there))
    told += [f"{k} {b.get(k, 'default')} there, {a.get(k, 'default')} asked" for k in sorted(a.keys() | b.keys())
             if a.get(k) != b.get(k)]  # fmt: skip
    a, b = asked["made_from"], there.get("made_from", {})
    told += [f"another {what} there than now" for what in sorted(a) if a[what] and b.get(what) and a[what] != b[what]]
    return told


def read(folder: Path) -> dict | None:
    """The identity a folder states, by itself or in its record; None where it states none."""
    path = folder / NAME
    try:
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            return there if {"trainer", "options", "made_from"} <= there.keys() else None
        record = records.read(folder)
    except (UserError, OSError, ValueError, AttributeError):
        return None
    return {
        "trainer": record["trainer"],
        "options": record.get("options", {}),
        "made_from": record.get("made_from", {}),
    }


def checkpoints_in(folder: Path) -> bool:
    return any(folder.glob("*/checkpoint")) or any(folder.glob("*/model*.pth.tar*"))


def classnames_in(folder: Path) -> list[str]:
    """Of the classes that a folder's checkpoints were trained on; [] where it does not say."""
    path = folder / NAME
    try:
        if path.is_file():
            return list(json.loads(path.read_text(encoding="utf-8")).get("classnames", []))
        record = records.read(folder)
    except (UserError, OSError, ValueError, AttributeError):
        return []
    return [] if record.get("model_dir") else list(record.get("per_class", {}))


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
    there = {"trainer": record["trainer"]} | {key: record.get(key, {}) for key in ("options", "made_from")}
    if told := unlike(identity(cfg), there):
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
    for key in TRAINED:
        if key not in asked["options"] and key in trained:
            cfg.merge_from_list([key, trained[key]])
            asked["options"][key] = trained[key]
    skipped = tuple(block + option for option in UNREAD_IN_TESTS)
    same_data = trained.get("DATASET.NAME") == asked["options"].get("DATASET.NAME")
    matter = [key for key in sorted(trained.keys() | asked["options"].keys())
              if (key in TRAINED or key.startswith((block, "MODEL.BACKBONE."))) and key not in skipped]  # fmt: skip
    if not same_data:  # another data set has knowledge of its own
        matter = [key for key in matter if key not in (f"{block}REPRESENTATIONS", f"{block}SENTENCES")]
    told = [f"{key} {trained.get(key, 'default')} there, {asked['options'].get(key, 'default')} asked" for key in matter
            if trained.get(key) != asked["options"].get(key)]  # fmt: skip
    if there["trainer"] != name:
        told = [f"trainer {there['trainer']} there, {name} asked"]
    for what in ("backbone", *(["knowledge"] if same_data else [])):
        a, b = asked["made_from"].get(what), there["made_from"].get(what)
        if a and b and a != b:
            told.append(f"another {what} there than now")
    if told:
        raise UserError(
            f"The prompts in {folder} were trained otherwise ({brief(told)}): ask for what they were trained with, or "
            "give another --model-dir."
        )
