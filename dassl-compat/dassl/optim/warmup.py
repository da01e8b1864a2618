"""A warm-up in front of any of torch's schedulers, for those who build their own; one step() an epoch."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class _BaseWarmupScheduler(LRScheduler):
    """`warmup_epoch` epochs of rates of its own, then those of `successor`, which starts behind them.

    Its state holds the successor's state, not the successor: a checkpoint is read without running what it holds.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, last_epoch=-1, verbose=False):
        """verbose: part of Dassl's signature; nothing is printed."""
        self.successor, self.warmup_epoch = successor, warmup_epoch
        super().__init__(optimizer, last_epoch)

    def warm(self) -> list[float]:
        """The rates of epoch `last_epoch` of the warm-up."""
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        return self.warm() if self.last_epoch < self.warmup_epoch else self.successor.get_last_lr()

    def step(self, epoch=None) -> None:
        if self.last_epoch < self.warmup_epoch:
            super().step(epoch)
        else:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch, "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Behind the optimizer's, which holds the rates.  A state of the finished epochs alone will do."""
        epoch, successor = state_dict["last_epoch"], state_dict.get("successor")
        self.last_epoch = min(epoch, self.warmup_epoch)
        if successor is None:
            self.successor.last_epoch = epoch - self.last_epoch
        else:
            self.successor.load_state_dict(successor)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class ConstantWarmupScheduler(_BaseWarmupScheduler):
    """`cons_lr` for every group."""

    def __init__(self, optimizer, successor, warmup_epoch: int, cons_lr: float, last_epoch=-1, verbose=False):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warm(self) -> list[float]:
        return [self.cons_lr for _ in self.base_lrs]


class LinearWarmupScheduler(_BaseWarmupScheduler):
    """`min_lr`, then lr * epoch / warmup_epoch."""

    def __init__(self, optimizer, successor, warmup_epoch: int, min_lr: float, last_epoch=-1, verbose=False):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warm(self) -> list[float]:
        return [lr * self.last_epoch / self.warmup_epoch if self.last_epoch else self.min_lr for lr in self.base_lrs]
