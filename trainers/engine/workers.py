"""Batches on their way from workers: read by all of them at once, and as bytes.

A GPU takes a step of prompt learning in less time than a worker reads its images (benchmarks/NOTES.md).  Nothing here
changes an image, a draw or a number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms as T


class Spread:
    """The batches of a loader, each read by several workers, so that an epoch's first one is there sooner.

    A few-shot epoch is one or a few batches: with a worker a batch most workers would be idle and a GPU wait.  The
    images, their order and whatever is drawn are those of the loader.
    """

    def __init__(self, loader: DataLoader, workers: int, dataset: Dataset | None = None):
        """dataset: the loader's, in another form."""
        self.whole, self.dataset = loader, dataset or loader.dataset
        self.size = -(-loader.batch_size // workers)
        self.loader = type(loader)(
            self.dataset,
            batch_sampler=Parts(loader.batch_sampler, self.size),
            num_workers=max(loader.num_workers, min(workers, len(loader) * -(-loader.batch_size // self.size))),
            persistent_workers=loader.persistent_workers,
            collate_fn=partial(light, loader.collate_fn),
            worker_init_fn=loader.worker_init_fn,
            generator=loader.generator,
        )

    def __getattr__(self, name: str):
        """sampler, batch_size and whatever else is asked of a DataLoader."""
        return getattr(self.__dict__["whole"], name)

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[dict]:
        parts, count = [], 0
        for part in self.loader:
            parts.append(part)
            count += len(part["label"])
            if count == self.whole.batch_size:
                yield joined(parts, self.whole.pin_memory)
                parts, count = [], 0
        if parts:
            yield joined(parts, self.whole.pin_memory)


class Parts(Sampler):
    """Neighbouring parts of batches, each of at most `size` indices."""

    def __init__(self, batches: Iterable[list[int]], size: int):
        self.batches, self.size = batches, size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            for start in range(0, len(batch), self.size):
                yield batch[start : start + self.size]


def light(collate: Callable[[list], dict], items: list) -> dict:
    """A part of a batch, in which what is small is an array: it comes with the message that tells of the part, and a
    tensor through a socket of its own, which takes about a millisecond."""
    return {
        key: value.numpy() if isinstance(value, torch.Tensor) and value.nbytes < 2**12 else value
        for key, value in collate(items).items()
    }


def joined(parts: Sequence, pin: bool):
    """One batch from its parts: dictionaries, sequences, and tensors or arrays (n, ...).

    pin: in memory from which a GPU copies while the host goes on.
    """
    if isinstance(parts[0], np.ndarray):
        parts = [torch.from_numpy(part) for part in parts]
    first = parts[0]
    if isinstance(first, torch.Tensor):
        whole = torch.empty((sum(map(len, parts)), *first.shape[1:]), dtype=first.dtype, pin_memory=pin)
        # by NumPy, in one thread: PyTorch's many would wait for cores on which the workers are
        np.concatenate([part.numpy() for part in parts], out=whole.numpy())
        return whole
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts], pin) for key in first}
    if isinstance(first[0], torch.Tensor):  # an image's views
        return [joined(views, pin) for views in zip(*parts, strict=True)]
    return [value for part in parts for value in part]


class Numbers:
    """What makes numbers of bytes: torchvision's ToTensor and Normalize, of whole batches on their device."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, R, R) -> float; numbers stay as they are."""
        if image.dtype != torch.uint8:
            return image
        if self.mean.device != image.device:
            self.mean, self.std = self.mean.to(image.device), self.std.to(image.device)
        return image.to(torch.get_default_dtype()).div_(255).sub_(self.mean).div_(self.std)


def as_bytes(dataset: Dataset) -> tuple[Dataset, Numbers | None]:
    """The data set ending in bytes, a quarter of what numbers take, and what makes numbers of them.

    The data set itself and None where more than ToTensor and Normalize stands behind the bytes, or images have views.
    """
    steps = list(getattr(getattr(dataset, "transform", None), "transforms", ()))
    *early, last = steps or [None]
    if not early or not isinstance(early[-1], T.ToTensor) or not isinstance(last, T.Normalize):
        return dataset, None
    if getattr(dataset, "k_tfm", 1) > 1 or getattr(dataset, "return_img0", False):
        return dataset, None
    other = copy.copy(dataset)
    other.transform = T.Compose([*early[:-1], T.PILToTensor()])
    return other, Numbers(last.mean, last.std)
