"""Linear probe: logistic regression on frozen image features, its strength chosen on the validation set.

Radford et al., ICML 2021, arXiv 2103.00020, section 3.2; search as in CoOp's experiments: a coarse grid of C, then
bisection around the best.  Features are not normalised and images are not augmented.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cilmp.clip import CLIP
from cilmp.trainers.base import Prompted, PromptTrainer
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
BISECTIONS = 8


class Head(Prompted):
    def __init__(self, clip: CLIP, classnames: list[str], options):
        super().__init__(clip)
        self.head = nn.Linear(clip.embed, len(classnames))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.image(image).to(self.head.weight.dtype))

    infer = forward


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    method, folder = Head, "linear_probe"
    defaults = dict(PREC="fp32")

    @torch.no_grad()
    def features(self, items) -> tuple[np.ndarray, np.ndarray]:
        """(N, E) and (N,) of a list of Datums, seen as in the test."""
        loader = build_data_loader(
            self.cfg,
            sampler_type="SequentialSampler",
            data_source=items,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(self.cfg, is_train=False),
            is_train=False,
            dataset_wrapper=self.reader,
        )
        self.set_model_mode("eval")
        pairs = [(self.model.image(b["img"].to(self.device)).float().cpu(), b["label"]) for b in loader]
        return tuple(torch.cat(part).numpy() for part in zip(*pairs, strict=True))

    def train(self) -> None:
        from sklearn.linear_model import LogisticRegression

        start, data = time.time(), self.dm.dataset
        x, y = self.features(data.train_x)
        held = self.features(data.val) if data.val else (x, y)
        if not data.val:
            print("No validation set: C is chosen on the training images")

        def fit(log_c: float):
            return LogisticRegression(C=10**log_c, max_iter=1000).fit(x, y)

        scores = {np.log10(c): fit(np.log10(c)).score(*held) for c in GRID}
        step = 1.0
        for _ in range(BISECTIONS):
            best = max(scores, key=scores.get)
            for log_c in (best - step, best + step):
                if log_c not in scores:
                    scores[log_c] = fit(log_c).score(*held)
            step /= 2
        best = max(scores, key=scores.get)
        print(f"C = {10**best:.3g} (accuracy {100 * scores[best]:.2f} % on validation), {time.time() - start:.0f} s")
        self.load_coefficients(fit(best))
        self.save_model(self.max_epoch - 1, self.output_dir)
        Path(self.output_dir).mkdir(parents=True, exist_ok=True)
        self.test()

    def load_coefficients(self, regression) -> None:
        """Scikit-learn's coefficients into the head; two classes share one row there."""
        weight, bias = torch.from_numpy(regression.coef_), torch.from_numpy(regression.intercept_)
        if len(weight) == 1:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        self.model.head.weight.data.copy_(weight)
        self.model.head.bias.data.copy_(bias)
