"""Linear probe: logistic regression on frozen image features, its strength chosen on the validation set.

Radford et al., ICML 2021, arXiv 2103.00020, section 3.2; search as in CoOp's experiments: a coarse grid of C, then
bisection around the best.  Features are not normalised and images are not augmented.
Without validation images C is chosen on the training images.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import PREC
from cilmp.trainers.features import Features, FeatureTrainer, FrozenTower
from cilmp.trainers.method import CLOSED, Task
from dassl.engine import TRAINER_REGISTRY

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
BISECTIONS = 8
NEVER = -1e4  # a logit below all others


class Head(FrozenTower):
    kind, year, protocols, compared = "probe", 2021, CLOSED, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        self.head = nn.Linear(clip.embed, len(task.classnames))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.image(image).to(self.head.weight.dtype))

    infer = forward


@TRAINER_REGISTRY.register()
class LinearProbe(FeatureTrainer):
    method, folder = Head, "linear_probe"
    keeps = False  # at C = 1e6 the last bits of features move accuracy by points
    defaults = dict(PREC="fp32")
    ranges = dict(PREC=PREC)

    def fit(self, train: Features, val: Features | None) -> None:
        from sklearn.linear_model import LogisticRegression

        x, y = train.x[0].numpy(), train.label.numpy()
        held = (val.x[0].numpy(), val.label.numpy()) if val else (x, y)

        def regression(log_c: float):
            return LogisticRegression(C=10**log_c, max_iter=1000).fit(x, y)

        scores = {np.log10(c): regression(np.log10(c)).score(*held) for c in GRID}
        step = 1.0
        for _ in range(BISECTIONS):
            best = max(scores, key=scores.__getitem__)
            for log_c in (best - step, best + step):
                if log_c not in scores:
                    scores[log_c] = regression(log_c).score(*held)
            step /= 2
        best = max(scores, key=scores.__getitem__)
        print(f"C = {10**best:.3g} (accuracy {100 * scores[best]:.2f} % on validation)")
        self.load_coefficients(regression(best))

    def load_coefficients(self, regression) -> None:
        """Scikit-learn's coefficients into the head; two classes share one row there, and a class that no training
        image shows has none: its own never wins."""
        weight, bias = torch.from_numpy(regression.coef_), torch.from_numpy(regression.intercept_)
        if len(weight) == 1:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        head, rows = self.model.head, torch.from_numpy(regression.classes_)
        head.weight.data.zero_()
        head.bias.data.fill_(NEVER)
        head.weight.data[rows], head.bias.data[rows] = weight.to(head.weight), bias.to(head.bias)
