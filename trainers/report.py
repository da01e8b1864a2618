"""What a finished run leaves behind besides its checkpoint: the facts of its record, and its predictions."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from cilmp import records
from cilmp.trainers.config import differences


def describe(trainer, cfg: CfgNode, seconds: dict, config: str, model_dir: str) -> dict:
    """The record of a run (result.json), metrics in percent at full precision."""
    models = getattr(trainer, "_models", {}).values()
    scores = dict(trainer.evaluator.scores)
    return {
        "version": records.VERSION,
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "config": config,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "split": cfg.TEST.SPLIT,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "per_class": scores.pop("per_class"),
        "metrics": scores,
        "options": differences(cfg),
        "seconds": seconds | getattr(trainer, "seconds", {}),
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "trainable_parameters": sum(p.numel() for m in models for p in m.parameters() if p.requires_grad),
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else trainer.device.type,
        "knowledge": getattr(trainer, "knowledge", None),
        "model_dir": model_dir,
        "commit": commit(),
        "versions": versions(),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def peak_memory_mb(device: torch.device) -> float:
    """Of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)  # bytes there, KiB elsewhere


def commit() -> str:
    """The checkout's commit, '' outside of one."""
    here = Path(__file__).resolve().parent
    run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
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
    """predictions.npz: path (N,), label (N,), logits (N, C), classnames (C,), in the order of the test split."""
    items = trainer.dm.dataset.test
    partial = folder / "predictions.tmp.npz"
    np.savez_compressed(
        partial,
        path=np.array([item.impath for item in items]),
        label=trainer.evaluator.labels.cpu().numpy(),
        logits=trainer.evaluator.logits.float().cpu().numpy(),
        classnames=np.array(trainer.dm.dataset.classnames),
    )
    os.replace(partial, folder / "predictions.npz")
