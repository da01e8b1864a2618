"""LP++: a linear probe on image features, blended with the text, at step sizes that follow from the data.

Huang et al., CVPR 2024, https://arxiv.org/abs/2404.02285.  logits_k = w_k f + b_k + alpha_k f t_k, f and t normalised;
full-batch descent, in which alpha moves every tenth step.  The reference never clears alpha's gradient, so that each of
its moves takes the sum of all gradients so far: ACCUMULATE repeats that.  The epoch is chosen on the validation images
(the later of equals), and is the last without any.  Training images are seen in one augmented view.

Axes: N training images, C classes, E joint embedding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import COUNT, PREC
from cilmp.trainers.features import Features, FeatureTrainer, FixedText
from cilmp.trainers.method import CLOSED, Task, normalise
from dassl.engine import TRAINER_REGISTRY

EVERY = 10  # steps between two moves of alpha
START = 250.0  # of alpha, times the mean similarity of a class's images to its text


class BlendedProbe(FixedText):
    kind, year, protocols, compared = "probe", 2024, CLOSED, False

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        classes = len(task.classnames)
        self.classifier = nn.Linear(clip.embed, classes)
        self.alpha = nn.Parameter(torch.zeros(1, classes))

    def forward(self, image: Tensor) -> Tensor:
        f, text = self.features(image)
        f = normalise(f).to(self.alpha.dtype)
        return self.classifier(f) + self.alpha * (f @ normalise(text[0]).T)

    @torch.no_grad()
    def start(self, f: Tensor, label: Tensor) -> tuple[float, float]:
        """From the features (N, E) of the training images; the step sizes of the weights and of alpha."""
        f = normalise(f)
        shown = F.one_hot(label, self.alpha.shape[1]).to(f)  # (N, C)
        similar = f @ normalise(self.fixed[0]).T
        mean = (shown * similar).sum(0) / shown.sum(0)
        self.classifier.weight.copy_(shown.T @ f)
        self.alpha.fill_(START * mean[shown.sum(0) > 0].mean())
        exact = f.double().cpu()
        largest = torch.linalg.eigvalsh(exact.T @ exact)[-1].item()
        return 4 * len(f) / largest, len(f) / (4 * similar.square().sum(0).max().item())


def descend(
    model: BlendedProbe, f: Tensor, label: Tensor, epochs: int, momentum: float, accumulate: bool
) -> Iterator[float]:
    """Steps on all features f (N, E); yields the loss before each, after it."""
    rate, alpha_rate = model.start(f, label)
    optim = torch.optim.SGD(model.classifier.parameters(), lr=rate, momentum=momentum)
    for epoch in range(epochs):
        loss = F.cross_entropy(model(f), label)
        optim.zero_grad()
        if not accumulate:
            model.alpha.grad = None
        loss.backward()
        optim.step()
        if (epoch + 1) % EVERY == 0:
            model.alpha.data -= alpha_rate * model.alpha.grad
        yield loss.item()


@TRAINER_REGISTRY.register()
class LPPlusPlus(FeatureTrainer):
    method, folder = BlendedProbe, "lp_plus_plus"
    defaults = dict(VIEWS=1, ACCUMULATE=False, PREC="fp32")
    ranges = dict(VIEWS=COUNT, PREC=PREC)

    def fit(self, train: Features, val: Features | None) -> None:
        model, optim = self.model, self.cfg.OPTIM
        x, label = train.x[0].to(self.device), train.label.to(self.device)
        most, best, chosen = -1, {}, 0
        steps = descend(model, x, label, self.max_epoch, optim.MOMENTUM, self.options.ACCUMULATE)
        for epoch, loss in enumerate(steps):
            with torch.no_grad():
                shown = val and model(val.x[0].to(self.device)).argmax(-1).cpu()
            right = int((shown == val.label).sum()) if val else epoch
            if right >= most:
                most, chosen = right, epoch + 1
                best = {name: value.clone() for name, value in model.state_dict().items()}
            if (epoch + 1) % EVERY == 0:
                print(f"epoch [{epoch + 1}/{self.max_epoch}] loss {loss:.4f}")
        model.load_state_dict(best)
        print(f"Kept: epoch {chosen}")
