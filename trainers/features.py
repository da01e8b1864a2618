"""Methods on frozen features: every image goes through the tower once, then something is fitted to the features.

Axes: N images, E joint embedding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cilmp.errors import UserError
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine.loading import through


class Features(NamedTuple):
    x: Tensor  # (N, E), on the CPU
    label: Tensor  # (N,)


class FeatureTrainer(CLIPTrainer):
    """A subclass says what `fit` does with the features."""

    def fit(self, train: Features, val: Features | None) -> None:
        """Set the method's parameters.  val is None where the data set has no validation images."""
        raise NotImplementedError

    def features(self, items: Sequence) -> Features:
        """Of Dassl's Datums, seen as in the test."""
        self.set_model_mode("eval")
        paths, size = [item.impath for item in items], self.cfg.DATALOADER.TEST.BATCH_SIZE
        rows = []
        for _, row, error in through(
            lambda image: self.model.image(image).float(),
            paths,
            self.cfg,
            self.device,
            size,
            min(self.cfg.DATALOADER.NUM_WORKERS, -(-len(paths) // size)),
            "Features",
        ):
            if row is None:
                raise UserError(str(error))
            rows.append(row)
        return Features(torch.stack(rows), torch.tensor([item.label for item in items]))

    def train(self) -> None:
        """Fit and test.  A run that was killed in its test goes on there."""
        start, data = time.time(), self.dm.dataset
        if not self.resume_model_if_exist(self.cfg.RESUME or self.output_dir):
            self.fit(self.features(data.train_x), self.features(data.val) if data.val else None)
            Path(self.output_dir).mkdir(parents=True, exist_ok=True)
            self.save_model(self.max_epoch - 1, self.output_dir)
        self.seconds["train"] = time.time() - start
        if not self.cfg.TEST.NO_TEST:
            self.test()
