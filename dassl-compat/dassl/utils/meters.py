from collections import defaultdict

import torch


class AverageMeter:
    """The last value and the running mean, in float64; tensors are read when asked for: no step waits for a device."""

    def __init__(self, ema: bool = False):
        """ema: an exponential average of weight 0.9 on the past instead of the mean."""
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self._val = self._avg = self._sum = 0
        self.count = 0

    def update(self, val, n: int = 1) -> None:
        if isinstance(val, torch.Tensor):
            val = val.detach().to(torch.float32 if val.device.type == "mps" else torch.float64)
        self._val = val
        self._sum = self._sum + val * n
        self.count += n
        if self.ema:
            self._avg = self._avg * 0.9 + val * 0.1

    @property
    def val(self) -> float:
        return float(self._val)

    @property
    def sum(self) -> float:
        return float(self._sum)

    @property
    def avg(self) -> float:
        return float(self._avg) if self.ema else float(self._sum) / max(self.count, 1)


class MetricMeter:
    """A meter for each name; prints as 'loss 1.2345 (1.3000) acc 50.0000 (48.0000)'."""

    def __init__(self, delimiter: str = " "):
        self.meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict | None) -> None:
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError("MetricMeter.update() takes a dictionary of names and numbers")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
