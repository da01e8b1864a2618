"""Tip-Adapter: training images vote with their labels, by the similarity of their features.

Zhang et al., ECCV 2022, https://arxiv.org/abs/2207.09519.  logits = s cos(f, t) + alpha exp(-beta (1 - f keys)) values,
s the backbone's scale (100 in the reference: CLIP's).  Keys are means over VIEWS augmented views.  TipAdapterF trains
the keys; its epoch e sees view e mod VIEWS, where the reference draws a view anew.

alpha and beta, and TipAdapterF's epoch, are chosen on the validation images (the reference: on the test images);
without any they are INIT_ALPHA and INIT_BETA, and the last epoch.

Axes: V views, N training images, M others, C classes, E joint embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from cilmp.clip.model import CLIP
from cilmp.trainers.engine.ranges import AT_LEAST_0, COUNT, PREC, number, several
from cilmp.trainers.features import Features, FeatureTrainer, FixedText
from cilmp.trainers.method import CLOSED, Task, normalise
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_optimizer

LOGITS = 1 << 24  # of several alphas at once


class Voting(FixedText):
    kind, year, protocols, compared = "training-free", 2021, CLOSED, False
    per_image = ("keys", "values")

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        self.register_buffer("keys", torch.zeros(0, clip.embed))  # (N, E)
        self.register_buffer("values", torch.zeros(0, len(task.classnames)))  # (N, C)
        self.register_buffer("blend", torch.zeros(2))  # alpha, beta

    def remember(self, train: Features, blend: Sequence[float]) -> None:
        self.keys.data = normalise(train.x.mean(0)).to(self.keys)
        self.values = F.one_hot(train.label, self.values.shape[1]).to(self.values)
        self.blend = self.blend.new_tensor(blend)

    def votes(self, f: Tensor, beta: Tensor | float) -> Tensor:
        """Normalised f (M, E) -> (M, C)."""
        return torch.exp(-beta * (1 - f @ self.keys.T)) @ self.values

    def forward(self, image: Tensor) -> Tensor:
        f, text = self.features(image)
        alpha, beta = self.blend
        return self.clip.logits(f, text) + alpha * self.votes(normalise(f), beta)

    @torch.no_grad()
    def search(self, f: Tensor, label: Tensor, scale: Sequence[float], steps: Sequence[int]) -> None:
        """The best alpha and beta for f (M, E), the first of equals; scale and steps: of beta, of alpha."""
        zero_shot, f = self.clip.logits(f, self.fixed), normalise(f)
        grid = zip(scale, steps, strict=True)
        betas, alphas = (torch.arange(n, device=f.device) * (end - 0.1) / n + 0.1 for end, n in grid)
        most = -1
        for beta in betas:
            votes = self.votes(f, beta)
            for part in alphas.split(max(1, LOGITS // votes.numel())):
                right = ((zero_shot + part[:, None, None] * votes).argmax(-1) == label).sum(-1)
                if right.max() > most:
                    most = right.max()
                    self.blend = torch.stack([part[(right == most).nonzero()[0, 0]], beta])
        alpha, beta = self.blend.tolist()
        print(f"alpha = {alpha:.3g}, beta = {beta:.3g} (accuracy {100 * most / len(label):.2f} % on validation)")


class TrainedVoting(Voting):
    kind = "adapter"
    renames = ((r"^adapter\.weight$", "keys"),)

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip, task, options)
        keys = self._buffers.pop("keys")
        self.keys = nn.Parameter(keys)


def train_keys(model: TrainedVoting, train: Features, optim: torch.optim.Optimizer, orders) -> Iterator[float]:
    """Epochs of steps, the rate a cosine over all of them; yields the mean loss of each epoch.

    orders: for each epoch its batches, indices of training images.
    """
    schedule = CosineAnnealingLR(optim, sum(map(len, orders)))
    for epoch, batches in enumerate(orders):
        x, total = train.x[epoch % len(train.x)], 0.0
        for batch in batches:
            loss = F.cross_entropy(model(x[batch]), train.label[batch])
            optim.zero_grad()
            loss.backward()
            optim.step()
            schedule.step()
            total += loss.item()
        yield total / len(batches)


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureTrainer):
    method, folder = Voting, "tip_adapter"
    defaults = dict(VIEWS=10, INIT_ALPHA=1.0, INIT_BETA=1.0, PREC="fp32")
    defaults |= dict(SEARCH_SCALE=[50.0, 50.0], SEARCH_STEP=[200, 200])  # of beta, of alpha
    ranges = dict(VIEWS=COUNT, INIT_ALPHA=AT_LEAST_0, INIT_BETA=AT_LEAST_0, PREC=PREC)
    ranges |= dict(SEARCH_SCALE=several(number(0.1), 2), SEARCH_STEP=several(COUNT, 2))

    def fit(self, train: Features, val: Features | None) -> None:
        self.model.remember(train, (self.options.INIT_ALPHA, self.options.INIT_BETA))
        self.learn(self.placed(train), self.placed(val) if val else None)
        if val:
            x, label = self.placed(val)
            self.model.search(x[0], label, self.options.SEARCH_SCALE, self.options.SEARCH_STEP)

    def placed(self, features: Features) -> Features:
        return Features(*(part.to(self.device) for part in features))

    def learn(self, train: Features, val: Features | None) -> None:
        """Keys are not trained."""


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    method, folder = TrainedVoting, "tip_adapter_f"
    defaults = TipAdapter.defaults | dict(EPS=1e-4)
    ranges = TipAdapter.ranges | dict(EPS=number(0, open_low=True))

    def learn(self, train: Features, val: Features | None) -> None:
        model, size = self.model, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        optim = build_optimizer([model.keys], self.cfg.OPTIM)
        for group in optim.param_groups:
            group["eps"] = self.options.EPS
        orders = [torch.randperm(len(train.label)).split(size) for _ in range(self.max_epoch)]
        most, best = -1, model.keys.data
        for epoch, loss in enumerate(train_keys(model, train, optim, orders)):
            with torch.no_grad():
                right = int((model(val.x[0]).argmax(-1) == val.label).sum()) if val else epoch
            if right > most:
                most, best = right, model.keys.data.clone()
            print(f"epoch [{epoch + 1}/{self.max_epoch}] loss {loss:.4f}")
        model.keys.data = best
