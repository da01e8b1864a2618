"""How far an extraction is: classes, the time of each, tokens, memory."""

from __future__ import annotations

import torch

from cilmp.devices import peak_memory_mb


class Progress:
    """A bar of classes with the time of each, the token being written, and the peak of memory."""

    def __init__(self, name: str, total: int, done: int):
        from tqdm import tqdm

        self.bar = tqdm(total=total, initial=done, desc=name, unit="class")
        self.written = 0

    def token(self, most: int) -> None:
        self.written += 1
        self.bar.set_postfix_str(f"token {self.written}/{most}, {peak()}", refresh=self.written % 8 == 0)

    def update(self, classes: int) -> None:
        self.bar.set_postfix_str(peak(), refresh=False)
        self.bar.update(classes)

    def say(self, line: str) -> None:
        self.bar.write(line)

    def close(self) -> None:
        self.bar.close()


def peak() -> str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return f"GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    peak = peak_memory_mb(torch.device("cpu"))
    return "" if peak is None else f"memory {peak / 2**10:.1f} GiB"
