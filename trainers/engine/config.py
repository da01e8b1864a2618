"""From the command line and yaml files to a frozen config; every slip of the user is one line."""

from __future__ import annotations

import difflib
import functools
import re
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import yaml
from yacs.config import CfgNode

from cilmp import yamls
from cilmp.errors import UserError, nearest
from cilmp.trainers.engine import ranges
from cilmp.trainers.method import OPEN
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY

FOLLOWED = ("SIZE", "PIXEL_MEAN", "PIXEL_STD", "INTERPOLATION", "RESIZE")  # of INPUT: the backbone's where left open


def default_cfg() -> CfgNode:
    """Dassl's defaults, ours, and the options each trainer states beside itself."""
    cfg = get_cfg_default()
    cfg.INPUT.INTERPOLATION = "bicubic"  # CLIP's preprocessing
    cfg.INPUT.PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073]
    cfg.INPUT.PIXEL_STD = [0.26862954, 0.26130258, 0.27577711]
    cfg.INPUT.RESIZE = "shortest"  # side, then a crop of the centre; or "squash": both sides.  In tests
    cfg.INPUT.KEPT = []  # of FOLLOWED, what was set to the very default: it is the user's, not the backbone's
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 8
    cfg.DATALOADER.AUGMENT = "workers"  # or "device", on which the training images then stay (DATASET.CACHE_MB)
    cfg.DATALOADER.TEST.BATCH_SIZE = 100
    cfg.OPTIM.NAME, cfg.OPTIM.LR_SCHEDULER = "sgd", "cosine"  # what every prompt learner of the field uses
    cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.WARMUP_TYPE, cfg.OPTIM.WARMUP_CONS_LR = 1, "constant", 1e-5
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.SPLIT_FILE = ""  # another split than the data set's own
    cfg.DATASET.FEWSHOT = "balanced"  # or imbalanced: natural proportions, no validation set
    cfg.DATASET.HELD_BACK = 0.0  # share of the training images that is validation, where a data set has none
    cfg.DATASET.BASE_CLASSES = []  # class names of the base half; empty: the first half
    cfg.DATASET.CLASSES_OF = ""  # a source: images are tested under its classes, as far as these are the same
    cfg.DATASET.CLASS_MAP = []  # which are: "class here = class there" each; empty: as the data set declares
    cfg.DATASET.CACHE_MB = 0  # memory for decoded few-shot training images; 0: read from disk
    cfg.DATASET.FEATURE_CACHE_MB = 1024  # disk for the features of frozen towers, shared by all runs; 0: none are kept
    cfg.DATASET.FEATURE_CACHE = ""  # their folder; empty: ~/.cache/cilmp/features
    cfg.MODEL.BACKBONE.PATH = ""  # a local file of weights, or a folder
    cfg.MODEL.BACKBONE.ACTIVATION = ""  # quick_gelu or gelu, of a file that does not say it
    cfg.MODEL.BACKBONE.NORM_PROMPTS = (
        True  # deep prompts pass a post-norm tower's LayerNorm; False: written as they are
    )
    cfg.TRAIN.CUDA_GRAPH = "auto"  # replay training steps from a graph: on a GPU, where it pays; or on, off
    cfg.TEST.EVALUATOR = "Medical"
    cfg.TEST.SAVE_PREDICTIONS = False
    for name in TRAINER_REGISTRY.registered_names():
        if defaults := getattr(TRAINER_REGISTRY.get(name), "defaults", None):
            cfg.TRAINER[name.upper()] = CfgNode(defaults)
    return cfg


def classes_of(cfg: CfgNode) -> str:
    """The data set that a run's class names, knowledge and sentences are of: its own, or the one it is tested for."""
    return cfg.DATASET.get("CLASSES_OF", "") or cfg.DATASET.NAME


def trainers() -> list[str]:
    """The trainers of this toolbox, in the order they were registered."""
    names = TRAINER_REGISTRY.registered_names()
    return [name for name in names if hasattr(TRAINER_REGISTRY.get(name), "method")]


def facts(name: str) -> dict:
    """What a trainer states of its method; of one from elsewhere nothing is known, and nothing ruled out."""
    method = getattr(TRAINER_REGISTRY.get(name), "method", None)
    return {
        "kind": getattr(method, "kind", ""),
        "year": getattr(method, "year", 0),
        "protocols": list(getattr(method, "protocols", OPEN)),
        "compared": getattr(method, "compared", False),
    }


def build_cfg(args: Namespace) -> CfgNode:
    """Defaults, then the data set's yaml, the trainer's yaml, the flags, and KEY VALUE pairs."""
    cfg = default_cfg()
    cfg.set_new_allowed(False)
    cfg.TRAINER.NAME = trainer_name(args.trainer)
    name = cfg.TRAINER.NAME
    given = {
        args.dataset_config_file: ("datasets", "data set"),
        args.config_file: (f"trainers/{name}", f"config of {name}"),
    }
    pairs = {key: str(value).strip("'\"") for key, value in zip(args.opts[::2], args.opts[1::2], strict=False)}
    stated = set(pairs)
    for path in [str(yamls.find(path, *place)) for path, place in given.items() if path]:
        node = read_yaml(path, cfg)
        published = node.pop("DATASETS", CfgNode())
        stated |= set(flatten(node))
        merge(cfg, node, path)
        asked = (pairs.get("DATASET.CLASSES_OF"), cfg.DATASET.CLASSES_OF, pairs.get("DATASET.NAME"), cfg.DATASET.NAME)
        chosen = for_dataset(published, next(filter(None, asked), ""), path)
        stated |= set(flatten(chosen))
        merge(cfg, chosen, path)
    flags = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed,  # 0 is a seed like any other
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
    }
    known = flatten(cfg)
    for key, value in flags.items():
        if isinstance(value, list) and (taken := [word for word in value if word in known]):
            flag = f"--{key.split('.')[-1].lower().replace('_', '-')}"
            raise UserError(f"{flag} has taken {taken[0]} for one of its values: put {flag} before other flags.")
        if value not in (None, "", []):
            merge_pairs(cfg, [key, value])
    merge_pairs(cfg, translated(args.opts, cfg))
    default = default_cfg().INPUT
    cfg.INPUT.KEPT = [key for key in FOLLOWED if f"INPUT.{key}" in stated and cfg.INPUT[key] == default[key]]
    cfg.TRAINER.NAME = trainer_name(args.trainer or cfg.TRAINER.NAME)
    if cfg.DATASET.CLASS_MAP and not cfg.DATASET.CLASSES_OF:
        raise UserError(
            "DATASET.CLASS_MAP says which classes are those of DATASET.CLASSES_OF: set that too, or sweep "
            "domain_generalisation, which does."
        )
    if not cfg.DATASET.NAME:
        raise UserError("No data set given: use --dataset-config-file with a yaml or a name such as busi.")
    known = DATASET_REGISTRY.registered_names()
    if cfg.DATASET.NAME not in known:
        raise UserError(f"Unknown data set '{cfg.DATASET.NAME}'.{nearest(cfg.DATASET.NAME, known)}")
    if cfg.DATASET.CLASSES_OF == cfg.DATASET.NAME:
        raise UserError(
            f"DATASET.CLASSES_OF is {cfg.DATASET.NAME}, which is tested here: name another set. Two folders of your "
            "own need a declaration each (CONTRIBUTING.md)."
        )
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    ranges.check(flatten(cfg), getattr(trainer, "ranges", {}), cfg.TRAINER.NAME.upper())
    cfg.freeze()
    return cfg


def trainer_name(name: str) -> str:
    known = TRAINER_REGISTRY.registered_names()
    if not name:
        raise UserError(f"No trainer given: use --trainer with one of {', '.join(sorted(known))}.")
    if name not in known:
        raise UserError(f"Unknown trainer '{name}'.{nearest(name, known)}")
    return name


def read_yaml(path: str, cfg: CfgNode) -> CfgNode:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        node = CfgNode(tree)
    except Exception as error:  # yaml and yacs have many complaints
        raise UserError(f"{path} is not a config file: {error}") from None
    return follow_alias(node, cfg, path)


def for_dataset(told: CfgNode, dataset: str, path: str) -> CfgNode:
    """DATASETS of a trainer's yaml -> what it sets for this data set, in place of the values above it."""
    known = DATASET_REGISTRY.registered_names()
    if not isinstance(told, CfgNode):
        raise UserError(f"{path}: DATASETS holds {told!r}: write DATASETS: {{BUSI: {{OPTIM: {{LR: 0.001}}}}}}.")
    for name, part in told.items():
        if name not in known:
            raise UserError(f"{path}: DATASETS names an unknown data set '{name}'.{nearest(name, known)}")
        if not isinstance(part, CfgNode) or "DATASET" in part:
            raise UserError(f"{path}: DATASETS.{name} must hold options of training, as OPTIM: {{LR: 0.001}}.")
    return told.get(dataset, CfgNode())


def follow_alias(node: CfgNode, cfg: CfgNode, path: str) -> CfgNode:
    """A reference may keep a trainer's options in another block: CILMP's authors under TRAINER.PROMPTSRC."""
    kind, block = TRAINER_REGISTRY.get(cfg.TRAINER.NAME), cfg.TRAINER.NAME.upper()
    found = CfgNode()
    for alias in getattr(kind, "alias", ()):
        *above, last = alias.split(".")
        there = functools.reduce(lambda tree, key: tree.get(key, {}), above, node)
        for key, value in (there.pop(last, None) or {}).items():
            if key in cfg.TRAINER[block]:
                found[key] = kind.means.get(key, {}).get(str(value), value)
            else:
                print(f"{path}: {cfg.TRAINER.NAME} has no {key}; not read")
    if found:
        node.TRAINER = node.get("TRAINER", CfgNode())
        node.TRAINER[block] = CfgNode({**found, **node.TRAINER.get(block, {})})
    return node


def translated(pairs: list[str], cfg: CfgNode) -> list[str]:
    """KEY VALUE pairs of a reference's command line, in this trainer's own words."""
    kind, block = TRAINER_REGISTRY.get(cfg.TRAINER.NAME), f"TRAINER.{cfg.TRAINER.NAME.upper()}"
    ours = []
    for i in range(0, len(pairs), 2):
        key, *value = pairs[i : i + 2]
        above, _, option = key.rpartition(".")
        if above not in getattr(kind, "alias", ()):
            ours += [key, *value]
        elif option in kind.unread:
            print(f"{cfg.TRAINER.NAME} has no {option}; not read")
        else:
            ours += [f"{block}.{option}", *(kind.means.get(option, {}).get(text, text) for text in value)]
    return ours


def own_block(keys: Iterable[str], cfg: CfgNode, path: str = "") -> None:
    """UserError for an option of another trainer, which nobody would read."""
    name, known = cfg.TRAINER.NAME, flatten(cfg)
    for key in keys:
        block = key.split(".")[1] if key.startswith("TRAINER.") else "NAME"
        if block not in ("NAME", name.upper()) and key in known:
            where = f"{path}: " if path else ""
            raise UserError(f"{where}{name} does not read {key}: its own options are under TRAINER.{name.upper()}.")


def merge(cfg: CfgNode, node: CfgNode, path: str) -> None:
    known = flatten(cfg)
    own_block(flatten(node), cfg, path)
    for key in flatten(node):
        if key not in known and not any(k.startswith(f"{key}.") for k in known):
            raise UserError(f"{path}: config key {key} does not exist.{closest(key, known)}")
    try:
        cfg.merge_from_other_cfg(widened(node, cfg))
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {message_of(error)}") from None


def widened(node: CfgNode, cfg: CfgNode) -> CfgNode:
    """8 is as good as 8.0 where a float is asked for, which yacs refuses; YAML's on and off are booleans."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            widened(value, cfg.get(key, CfgNode()))
        elif isinstance(cfg.get(key), float) and type(value) is int:
            node[key] = float(value)
        elif key == "CUDA_GRAPH" and isinstance(value, bool):
            node[key] = "on" if value else "off"
    return node


def merge_pairs(cfg: CfgNode, pairs: list) -> None:
    if len(pairs) % 2:
        raise UserError(f"Options come in pairs KEY VALUE; '{pairs[-1]}' has no value.")
    known = flatten(cfg)
    own_block(pairs[::2], cfg)
    for key in pairs[::2]:
        if key not in known:
            raise UserError(f"Config key {key} does not exist.{closest(key, known)}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if isinstance(known[key], str) and isinstance(value, str) and value[:1] not in ("'", '"'):
            assign(cfg, key, value)  # as it is: yacs would make a number of a folder 20261126, and nothing of None
            continue
        if isinstance(known[key], float) and re.fullmatch(r"[+-]?\d+", str(value)):
            value = float(value)
        try:
            cfg.merge_from_list([key, value])
        except (AssertionError, ValueError, KeyError) as error:
            raise UserError(f"{key} cannot be '{value}': {message_of(error)}") from None


def assign(cfg: CfgNode, key: str, value: object) -> None:
    """cfg.A.B = value, of 'A.B'."""
    *path, last = key.split(".")
    functools.reduce(lambda node, name: node[name], path, cfg)[last] = value


def closest(key: str, known: dict) -> str:
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def message_of(error: Exception) -> str:
    return str(error.args[0] if error.args else error)


def flatten(node: CfgNode, prefix: str = "") -> dict:
    """{'TRAINER.COOP.N_CTX': 16, ...}"""
    flat = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(cfg: CfgNode) -> dict:
    """What a run changed: every key whose value is not the default, for the record."""
    default = flatten(default_cfg())
    return {key: value for key, value in flatten(cfg).items() if value != default.get(key)}
