"""GDA: a Gaussian for each class of image features, one covariance for all, ensembled with the text.

Wang et al., ICLR 2024, https://arxiv.org/abs/2402.04087.  logits = s cos(f, t) + alpha (f W + b), s the backbone's
scale; W = S^-1 mu, b = -mu S^-1 mu / 2 + log 1/C; S^-1 = E ((N - 1) cov + tr(cov) 1)^-1, a ridge set by the data.
alpha is chosen on the validation images, the first of equals; without any it is ALPHA, where the reference's search
starts.  Features are normalised, training images seen in VIEWS augmented views.  A class that no training image shows
has the mean of all images, so that its text decides (the reference: NaN).

Axes: V views, N training images times views, C classes, E joint embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC
from cilmp.trainers.features import Features, FeatureTrainer, FixedText
from cilmp.trainers.method import CLOSED, Task, normalise
from dassl.engine import TRAINER_REGISTRY

GRID = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


class Gaussians(FixedText):
    kind, year, protocols, compared = "training-free", 2024, CLOSED, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        classes = len(task.classnames)
        self.register_buffer("weight", torch.zeros(classes, clip.embed))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("alpha", torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        f, text = self.features(image)
        return self.clip.logits(f, text) + self.alpha * self.discriminant(f)

    def discriminant(self, f: Tensor) -> Tensor:
        """(B, E) -> (B, C)."""
        return normalise(f).to(self.weight.dtype) @ self.weight.T + self.bias

    def estimate(self, f: Tensor, label: Tensor) -> None:
        """From features f (N, E) on the CPU, in double precision."""
        weight, bias = gaussians(normalise(f.double()), label, len(self.bias))
        self.weight, self.bias = weight.to(self.weight), bias.to(self.bias)


def gaussians(f: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Features f (N, E) -> weights (C, E) and biases (C,) of the linear discriminant."""
    mean = torch.stack([f[label == c].mean(0) if (label == c).any() else f.mean(0) for c in range(classes)])
    away = f - mean[label]
    covariance = away.T.cov()
    size = f.shape[1]
    ridge = (len(f) - 1) * covariance + covariance.trace() * torch.eye(size, dtype=f.dtype)
    weight = mean @ (size * torch.linalg.pinv(ridge, hermitian=True))
    return weight, -(weight * mean).sum(1) / 2 - torch.tensor(float(classes)).log()


@TRAINER_REGISTRY.register()
class GDA(FeatureTrainer):
    method, folder = Gaussians, "gda"
    defaults = dict(VIEWS=10, ALPHA=0.1, PREC="fp32")
    ranges = dict(VIEWS=COUNT, ALPHA=AT_LEAST_0, PREC=PREC)

    def fit(self, train: Features, val: Features | None) -> None:
        model = self.model
        model.estimate(train.x.flatten(0, 1), train.label.repeat(len(train.x)))
        model.alpha.fill_(self.options.ALPHA)
        if not val:
            return
        x, label = val.x[0].to(self.device), val.label.to(self.device)
        text, image = self.model.clip.logits(x, model.fixed), model.discriminant(x)
        right = [int(((text + alpha * image).argmax(-1) == label).sum()) for alpha in GRID]
        model.alpha.fill_(GRID[right.index(max(right))])
        print(f"alpha = {float(model.alpha):g} (accuracy {100 * max(right) / len(label):.2f} % on validation)")
