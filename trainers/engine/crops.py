"""Training images that stay on the device, of which whole batches are cropped, resized and flipped there.

A worker reads and augments an image for longer than a GPU learns from it (benchmarks/NOTES.md).  With
DATALOADER.AUGMENT device the decoded images (DATASET.CACHE_MB) are moved once, and the host only draws what the workers
would have drawn: the same crops, the same flips.  Resizing is Pillow's, its whole numbers included, across and then
down; Pillow from 13 on takes some crops down first, whose last bits then differ (docs/data.md).

Axes: B images of a batch, H and W the sides of its largest crop, R pixels a side of a result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from cilmp.errors import UserError
from cilmp.trainers.engine.loading import Images, seed, undrawn
from cilmp.trainers.engine.workers import Numbers

KNOWN = ("random_resized_crop", "random_flip", "normalize")
BITS = 22  # behind the point, in Pillow's weights


def wanted(cfg: CfgNode, parses: bool = True) -> bool:
    """UserError where the user asks for what cannot be.  parses: does the trainer leave its batches to CLIPTrainer?"""
    if cfg.DATALOADER.get("AUGMENT", "workers") == "workers":
        return False
    others = [name for name in cfg.INPUT.TRANSFORMS if name not in KNOWN]
    for wrong, fault in (
        (not parses, "makes batches, and this trainer has a parse_batch of its own"),
        (others, f"does {', '.join(KNOWN)}, and INPUT.TRANSFORMS has {', '.join(others)}"),
        (cfg.INPUT.NO_TRANSFORM, "needs images of one size, and INPUT.NO_TRANSFORM leaves them as they are"),
        (cfg.DATALOADER.K_TRANSFORMS > 1, f"shows an image once, and K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS}"),
        (cfg.INPUT.INTERPOLATION not in FILTERS, f"is {' or '.join(FILTERS)}, INPUT.INTERPOLATION is not"),
    ):
        if wrong:
            raise UserError(f"DATALOADER.AUGMENT device {fault}: change that, or leave DATALOADER.AUGMENT out.")
    if not cfg.DATASET.get("CACHE_MB", 0):
        raise UserError(
            "DATALOADER.AUGMENT device keeps the training images on the device, and DATASET.CACHE_MB, the most they "
            "may take there, is 0: set it, to 2000 for example."
        )
    return True


class Crops(Dataset):
    """What is drawn of an image in place of its pixels: the crop's first pixel among all images' pixels, the width of
    its image, the crop's height and width, and whether it is flipped."""

    def __init__(self, images: Images):
        self.images, self.epoch = images, images.epoch
        steps = {type(step): step for step in images.transform.transforms}
        self.crop, self.flip = steps.get(T.RandomResizedCrop), steps.get(T.RandomHorizontalFlip)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict:
        return self.__getitems__([i])[0]

    def __getitems__(self, those: list[int]) -> list[dict]:
        with undrawn():  # once a batch, for it takes longer than what is drawn of an image
            return [self.drawn(i) for i in those]

    def drawn(self, i: int) -> dict:
        start, height, width = self.images.shapes[i]
        top, left, high, wide, flipped = 0, 0, height, width, False
        seed(self.images.seed, int(self.epoch), i)
        if self.crop:  # then the flip, as in the transforms
            shape = torch.empty(1).expand(3, height, width)
            top, left, high, wide = self.crop.get_params(shape, self.crop.scale, self.crop.ratio)
        if self.flip:
            flipped = torch.rand(1).item() < self.flip.p
        first = start // 3 + top * width + left
        return {"img": torch.tensor([first, width, high, wide, flipped]), "label": self.images.data_source[i].label}


class Cropper:
    """Makes numbers of what is drawn, on the device where the images are."""

    def __init__(self, images: Images, device: torch.device):
        self.pixels = images.memory.view(-1, 3).to(device)  # all images end to end
        self.size, self.filter = images.cfg.INPUT.SIZE, FILTERS[images.cfg.INPUT.INTERPOLATION]
        last = images.transform.transforms[-1]
        self.numbers = Numbers(*((last.mean, last.std) if isinstance(last, T.Normalize) else ([0.0] * 3, [1.0] * 3)))

    def __call__(self, crops: Tensor) -> Tensor:
        """(B, 5) on the host -> (B, 3, R, R)."""
        high, wide = crops[:, 2:4].amax(0).tolist()  # asked of the host: nobody waits for the device
        crops = crops.to(self.pixels.device, non_blocking=True)
        first, row, height, width, flipped = crops[:, :, None, None].unbind(1)  # (B, 1, 1)
        y, x = (torch.arange(count, device=crops.device) for count in (high, wide))
        places = (first + row * y[:, None] + x).clamp_(max=len(self.pixels) - 1)  # beyond a crop weights are 0
        image = self.pixels[places].permute(0, 3, 1, 2)  # (B, 3, H, W)
        across, down = weights(width, self.size[1], x, self.filter), weights(height, self.size[0], y, self.filter)
        across = torch.where(flipped.bool(), across.flip(1), across)
        return self.numbers(weighted(weighted(image, across), down))


def weights(count: Tensor, size: int, pixels: Tensor, filter: Callable[[Tensor], Tensor]) -> Tensor:
    """Of W pixels in each of R new ones, (B, R, W), where an image has count (B, 1, 1) of them: whole, 2**22 in all.

    As Pillow's Resample.c: a filter around the new pixel's centre, made wider where the image becomes smaller.
    """
    exact = torch.float32 if pixels.device.type == "mps" else torch.float64  # Apple's GPUs have no more
    scale = count.to(exact) / size
    centre = (torch.arange(size, dtype=exact, device=pixels.device)[:, None] + 0.5) * scale
    weight = filter(((pixels - centre + 0.5) * (1 / scale.clamp(min=1))).abs_()) * (pixels < count)
    weight *= 2**BITS / weight.sum(-1, keepdim=True)
    return (weight + 0.5 * weight.sign()).trunc_().float()


def weighted(image: Tensor, weight: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) and (B, R, W) -> uint8 (B, 3, R, H), which a second pass makes (B, 3, R, R).

    Two products of whole numbers of at most 11 bits with bytes, which float32, and TF32 too, multiply and sum exactly.
    """
    coarse = (weight / 2**12).round_()
    rows = image.flatten(1, 2).float()  # (B, 3H, W)
    upper, lower = ((rows @ part.mT).int() for part in (coarse, weight - coarse * 2**12))
    whole = (upper * 2**12 + lower + 2 ** (BITS - 1)) >> BITS
    return whole.clamp_(0, 255).to(torch.uint8).unflatten(1, image.shape[1:3]).mT


def bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp_(min=0)


def bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5."""
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, far * (x < 2))


FILTERS = {"bilinear": bilinear, "bicubic": bicubic}


def on_device(loader: DataLoader, device: torch.device) -> tuple[DataLoader, Cropper]:
    """The same images in the same order, as what is drawn of them, and what makes numbers of that."""
    images = loader.dataset
    if images.memory is None:
        raise UserError(
            f"DATALOADER.AUGMENT device keeps the training images on the device, and they need more than "
            f"DATASET.CACHE_MB {images.cfg.DATASET.CACHE_MB}: raise it, or leave DATALOADER.AUGMENT out."
        )
    cropper = Cropper(images, device)
    print(f"{len(images)} training images, {images.memory.nbytes / 2**20:.1f} MB, are augmented on {device.type}")
    same = dict(batch_size=loader.batch_size, sampler=loader.sampler, drop_last=loader.drop_last)
    same |= dict(generator=loader.generator, pin_memory=loader.pin_memory)
    return type(loader)(Crops(images), **same), cropper
