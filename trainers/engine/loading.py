"""Images on their way to a method: batches of a data set, and single files through a trained one."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cilmp.images import explain, read_image
from dassl.data.data_manager import DatasetWrapper
from dassl.data.transforms import build_transform


@contextmanager
def drawing(*key: int) -> Iterator[None]:
    """Inside, all random generators of the CPU are functions of the key; behind, they are as they were before."""
    with undrawn():
        seed(*key)
        yield


@contextmanager
def undrawn() -> Iterator[None]:
    """Behind it, the random generators of the CPU are as they were before."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def seed(*key: int) -> None:
    seeds = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(seeds[2])  # not torch.manual_seed, which seeds a GPU as well


class Images(DatasetWrapper):
    """Dassl's wrapper with this toolbox's reader and, for few training images, a memory.

    What an augmentation draws depends on (cfg.SEED, epoch, image) alone: neither on the number of workers nor on where
    a run was resumed.  The trainer tells the epoch.

    With cfg.DATASET.CACHE_MB > 0 the training images are decoded once, in the main process, into memory that the
    workers share.  An image is kept at no more than twice INPUT.SIZE on its shorter side, so that a random crop still
    finds the detail it will show.  A set that does not fit is read from disk as ever.
    """

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        super().__init__(cfg, data_source, transform=transform, is_train=is_train)
        self.seed = cfg.SEED if cfg.SEED >= 0 else torch.initial_seed()
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self.memory: torch.Tensor | None = None  # uint8, all images end to end
        self.shapes: list[tuple[int, int, int]] = []  # offset, height, width
        limit = cfg.DATASET.get("CACHE_MB", 0) * 2**20
        if is_train and limit:
            self.remember(limit)

    def remember(self, limit: int) -> None:
        arrays, total = [], 0
        for item in self.data_source:
            image = self.shrunk(read_image(item.impath))
            arrays.append(np.asarray(image))
            self.shapes.append((total, image.height, image.width))
            total += image.height * image.width * 3
            if total > limit:
                print(f"The training images need more than DATASET.CACHE_MB {limit >> 20}: they are read from disk")
                self.shapes = []
                return
        self.memory = torch.empty(total, dtype=torch.uint8).share_memory_()
        for (offset, *_), array in zip(self.shapes, arrays, strict=True):
            self.memory[offset : offset + array.size] = torch.from_numpy(array.reshape(-1).copy())

    def shrunk(self, image: Image.Image) -> Image.Image:
        factor = 2 * max(self.cfg.INPUT.SIZE) / min(image.size)
        if factor >= 1:
            return image
        return image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def image(self, idx: int) -> Image.Image:
        if self.memory is None:
            return read_image(self.data_source[idx].impath)
        offset, height, width = self.shapes[idx]
        pixels = self.memory[offset : offset + height * width * 3]
        return Image.fromarray(pixels.numpy().reshape(height, width, 3))

    def __getitem__(self, idx: int) -> dict:
        with drawing(self.seed, int(self.epoch), idx) if self.is_train else nullcontext():
            return self.item(idx)

    def item(self, idx: int) -> dict:
        item, image = self.data_source[idx], self.image(idx)
        image = image if self.is_train else squashed(image, self.cfg)
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx, "img": image}
        if self.transform is not None:
            several = isinstance(self.transform, list | tuple)
            for i, transform in enumerate(self.transform if several else [self.transform]):
                views = [transform(image) for _ in range(self.k_tfm)]
                output[f"img{i + 1}" if i else "img"] = views if self.k_tfm > 1 else views[0]
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output


def squashed(image: Image.Image, cfg) -> Image.Image:
    """To INPUT.SIZE without a crop, where INPUT.RESIZE asks for it: Dassl's transform then finds nothing to do."""
    if cfg.INPUT.get("RESIZE", "shortest") != "squash":
        return image
    height, width = cfg.INPUT.SIZE
    return image.resize((width, height), Image.Resampling[cfg.INPUT.INTERPOLATION.upper()])


def pipeline(cfg, augmented: bool) -> str:
    """Whatever of a configuration decides how an image is seen: in a test, or in training."""
    seen = dict(cfg.INPUT)
    if not augmented:
        seen = {
            key: seen[key] for key in ("SIZE", "INTERPOLATION", "PIXEL_MEAN", "PIXEL_STD", "NO_TRANSFORM", "RESIZE")
        }
        seen["TRANSFORMS"] = sorted({"normalize", "instance_norm"} & set(cfg.INPUT.TRANSFORMS))
    return repr(sorted(seen.items()))


class Files(Dataset):
    """(image (3, R, R), None) as a test sees it, or (None, why it cannot be read).

    draws: the key of each image's augmentation (see `drawing`), which then is a training's.
    """

    def __init__(self, paths: Sequence[str], cfg, draws: Sequence[tuple[int, ...]] | None = None):
        self.paths, self.cfg, self.draws = paths, cfg, draws
        self.transform = build_transform(cfg, is_train=draws is not None)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor | None, str | None]:
        try:
            with drawing(*self.draws[i]) if self.draws else nullcontext():
                return self.transform(squashed(read_image(self.paths[i]), self.cfg)), None
        except Exception as error:  # decoders fail in many ways, and the other images are wanted
            return None, explain(error)


@torch.no_grad()
def through(
    function: Callable[[Tensor], Tensor],
    paths: Sequence[str],
    cfg,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    title: str = "",
    draws: Sequence[tuple[int, ...]] | None = None,
) -> Iterator[tuple[str, Tensor | None, str | None]]:
    """(path, function's row, None) or (path, None, why it cannot be read) of every image, in order.

    function: a batch (B, 3, R, R) on the device -> (B, ...); the rows come back on the CPU.
    """
    from tqdm import tqdm

    # a generator of its own: whether there is something to compute moves no other draw
    own = torch.Generator()
    loader = DataLoader(Files(paths, cfg, draws), batch_size, num_workers=workers, collate_fn=list, generator=own)
    left = iter(paths)
    with tqdm(total=len(paths), desc=title, unit=" images", disable=not sys.stderr.isatty()) as bar:
        for batch in loader:
            good = [image for image, error in batch if error is None]
            rows = iter(function(torch.stack(good).to(device)).cpu() if good else ())
            for _, error in batch:
                yield next(left), None if error else next(rows), error
            bar.update(len(batch))
