"""Learning rates by epoch in closed form, so that a resumed run needs nothing but the epoch."""

import bisect
import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dassl.optim.warmup import (  # noqa: F401  imported from here
    ConstantWarmupScheduler,
    LinearWarmupScheduler,
    _BaseWarmupScheduler,
)
from dassl.utils.errors import SettingError
from dassl.utils.tools import check_availability

AVAI_SCHEDS = ("single_step", "multi_step", "cosine")
WARMUPS = ("linear", "constant")


class EpochLR(LambdaLR):
    """LambdaLR whose state is the epoch alone; one step() an epoch."""

    def state_dict(self) -> dict:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = self.last_epoch + 1
        rates = [lr * factor(self.last_epoch) for lr, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = rates


def decay(optim_cfg) -> Callable[[int], float]:
    """The factor of the learning rate after t epochs without warm-up."""
    epochs, gamma, steps = optim_cfg.MAX_EPOCH, optim_cfg.GAMMA, optim_cfg.STEPSIZE
    if optim_cfg.LR_SCHEDULER == "cosine":
        return lambda t: (1 + math.cos(math.pi * t / epochs)) / 2
    if optim_cfg.LR_SCHEDULER == "multi_step":
        if not isinstance(steps, tuple | list):
            raise SettingError(f"OPTIM.STEPSIZE must be a list of epochs for multi_step, not {steps}")
        return lambda t: gamma ** bisect.bisect_right(sorted(steps), t)
    size = steps[-1] if isinstance(steps, tuple | list) else steps
    size = size if size > 0 else epochs
    return lambda t: gamma ** (t // size)


def build_lr_scheduler(optimizer: Optimizer, optim_cfg) -> EpochLR:
    """OPTIM.LR_SCHEDULER behind WARMUP_EPOCH epochs of a constant or linearly growing rate.

    The schedule starts behind the warm-up; with WARMUP_RECOUNT False it has used up the warm-up's epochs as well.
    """
    check_availability(optim_cfg.LR_SCHEDULER, AVAI_SCHEDS, "OPTIM.LR_SCHEDULER")
    warm = max(optim_cfg.WARMUP_EPOCH, 0)
    if warm:
        check_availability(optim_cfg.WARMUP_TYPE, WARMUPS, "OPTIM.WARMUP_TYPE")
    factor = decay(optim_cfg)
    used = 0 if optim_cfg.WARMUP_RECOUNT else warm

    def rate(epoch: int, lr: float) -> float:
        if epoch >= warm:
            return lr * factor(epoch - warm + used) / factor(used)
        if optim_cfg.WARMUP_TYPE == "constant":
            return optim_cfg.WARMUP_CONS_LR
        return lr * epoch / warm if epoch else optim_cfg.WARMUP_MIN_LR

    rates = [group["lr"] for group in optimizer.param_groups]
    return EpochLR(optimizer, [lambda epoch, lr=lr: rate(epoch, lr) / lr if lr else 1.0 for lr in rates])
