"""What a finished run leaves behind besides its checkpoint: the facts of its record, and its predictions."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from yacs.config import CfgNode

from cilmp.devices import peak_memory_mb
from cilmp.results import records
from cilmp.results.predictions import Predictions
from cilmp.trainers.engine.config import differences, facts
from cilmp.trainers.engine.flops import cost
from cilmp.trainers.engine.pixels import used
from cilmp.trainers.engine.provenance import made_from


def describe(trainer, cfg: CfgNode, seconds: dict, config: str, model_dir: str) -> dict:
    """The record of a run (result.json), metrics in percent at full precision; docs/results.md names the fields."""
    models, method = getattr(trainer, "_models", {}).values(), facts(cfg.TRAINER.NAME)
    scores = dict(trainer.evaluator.scores)
    return {
        "version": records.VERSION,
        "trainer": cfg.TRAINER.NAME,
        "method": {key: method[key] for key in ("kind", "year")},
        "dataset": cfg.DATASET.NAME,
        "config": config,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "pixels": used(trainer.cfg),
        "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "split": cfg.TEST.SPLIT,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "per_class": scores.pop("per_class"),
        "metrics": scores,
        "options": differences(cfg),
        "made_from": made_from(cfg),
        "seconds": seconds | getattr(trainer, "seconds", {}),
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "gflops": cost(trainer.model, trainer.steps) if hasattr(trainer, "steps") else {},
        "trainable_parameters": sum(p.numel() for m in models for p in m.parameters() if p.requires_grad),
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else trainer.device.type,
        "knowledge": getattr(trainer, "knowledge", None),
        "model_dir": model_dir,
        "commit": commit(),
        "versions": versions(),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def commit(folder: Path | None = None) -> str:
    """Of the checkout that a folder lies in, ours if none is named; '' outside of one, or where git is missing."""
    here = folder or Path(__file__).resolve().parent
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return run.stdout.strip()


def versions() -> dict[str, str]:
    named = {"python": platform.python_version()}
    for package in ("cilmp", "dassl", "torch", "torchvision", "transformers", "numpy"):
        try:
            named[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            named[package] = ""
    return named


def save_predictions(trainer, folder: Path) -> None:
    """predictions.npz, in the order of the split that was tested."""
    dataset, evaluator = trainer.dm.dataset, trainer.evaluator
    paths = [item.impath for item in (dataset.val if trainer.cfg.TEST.SPLIT == "val" else dataset.test)]
    Predictions(evaluator.logits.numpy(), evaluator.labels.numpy(), paths, list(dataset.classnames)).write(folder)
