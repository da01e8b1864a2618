"""Medical: what the field reports of a classifier, in Dassl's log lines and beyond."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cilmp.results import metrics
from cilmp.trainers.engine.config import classes_of
from dassl.data.datasets import DATASET_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY, EvaluatorBase


@EVALUATOR_REGISTRY.register()
class Medical(EvaluatorBase):
    """Keeps the logits of a test. After evaluate(): `logits` (N, C) and `labels` (N,) on the CPU, and `scores`, every
    metric in percent with `per_class` {name: recall}."""

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self.names = lab2cname or {}
        self.scores: dict = {}
        self.reset()

    def reset(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """A batch's logits (B, C) and labels (B,)."""
        self._logits.append(mo.detach().float().cpu())
        self._labels.append(gt.detach().cpu())

    @property
    def logits(self) -> Tensor:
        return torch.cat(self._logits)

    @property
    def labels(self) -> Tensor:
        return torch.cat(self._labels)

    def graded(self) -> bool:
        """Do the classes form a scale (a data set says so of itself) and are all of them here?"""
        name = classes_of(self.cfg)
        known = name in DATASET_REGISTRY.registered_names()
        graded = known and getattr(DATASET_REGISTRY.get(name), "graded", False)
        return bool(graded) and self.cfg.DATASET.get("SUBSAMPLE_CLASSES", "all") == "all"

    def evaluate(self) -> OrderedDict[str, float]:
        logits, labels = self.logits.numpy(), self.labels.numpy()
        if not np.isfinite(logits).all():
            raise FloatingPointError("Logits are infinite or NaN!")
        predicted, classes = logits.argmax(1), logits.shape[1]
        recall = metrics.per_class(predicted, labels, classes)
        scores = metrics.scores(logits, labels, self.graded())
        name = [str(self.names.get(c, c)) for c in range(classes)]
        self.scores = scores | {"per_class": dict(zip(name, recall.tolist(), strict=True))}

        results = OrderedDict(accuracy=scores["accuracy"], error_rate=100.0 - scores["accuracy"])
        results.update((key, value) for key, value in scores.items() if not math.isnan(value))
        correct = int((predicted == labels).sum())
        print(f"=> result\n* total: {len(labels):,}\n* correct: {correct:,}")
        for key, value in results.items():
            print(f"* {'error' if key == 'error_rate' else key}: {value:.1f}%")
        if lost := [key for key, value in scores.items() if math.isnan(value)]:
            print(f"Not defined on this split: {', '.join(lost)}")
        if gone := metrics.absent(labels, classes):
            named = ", ".join(name[c] for c in gone)
            print(
                f"No test image of {named}: left out of macro_f1, auroc and balanced_accuracy; in "
                "accuracy_present no answer either"
            )

        if self.cfg.TEST.PER_CLASS_RESULT:
            self.print_per_class(predicted, labels, name, recall)
            results["perclass_accuracy"] = float(np.nanmean(recall))
        if self.cfg.TEST.COMPUTE_CMAT:
            counts = metrics.confusion(predicted, labels, classes)
            path = Path(self.cfg.OUTPUT_DIR, "cmat.pt")
            torch.save(torch.from_numpy(counts / np.maximum(counts.sum(1, keepdims=True), 1)), path)
            print(f"Confusion matrix is saved to {path}")
        return results

    @staticmethod
    def print_per_class(predicted: np.ndarray, labels: np.ndarray, name: list[str], recall: np.ndarray) -> None:
        print("=> per-class result")
        for c in np.unique(labels):
            total, correct = int((labels == c).sum()), int((predicted[labels == c] == c).sum())
            print(f"* class: {c} ({name[c]})\ttotal: {total:,}\tcorrect: {correct:,}\tacc: {recall[c]:.1f}%")
        print(f"* average: {np.nanmean(recall):.1f}%")
