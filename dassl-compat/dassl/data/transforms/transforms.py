"""Augmentations by name, applied in a fixed order whatever the order in INPUT.TRANSFORMS.

Draws are those of Dassl 0.6.3: crops, flips and colours from torch's random state, translations and whether there is
noise from Python's, cutouts from NumPy's; a worker's seed settles all three.  The policies (AutoAugment, RandAugment)
draw otherwise than Dassl's own, and which magnitude is Python's draw.
"""

import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dassl.utils.tools import check_availability

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class Cutout:
    """Squares of `length` pixels around uniform centres become zero; on tensors (C, H, W)."""

    def __init__(self, n_holes: int = 1, length: int = 16):
        self.n_holes, self.length = n_holes, length

    def __call__(self, image: Tensor) -> Tensor:
        image, half = image.clone(), self.length // 2
        height, width = image.shape[1:]
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            image[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return image


class GaussianNoise:
    """Noise on every second tensor."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: Tensor) -> Tensor:
        if random.uniform(0, 1) > self.p:
            return image
        return image + (torch.randn(image.shape) * self.std + self.mean)


class InstanceNormalization:
    """Each channel of each image to mean 0 and standard deviation 1."""

    def __call__(self, image: Tensor) -> Tensor:
        return (image - image.mean((1, 2), keepdim=True)) / (image.std((1, 2), keepdim=True) + 1e-8)


class Random2DTranslation:
    """Every second image is enlarged to 9/8 and cropped back at a random place, the others are resized."""

    def __init__(self, height: int, width: int, p: float = 0.5, interpolation=InterpolationMode.BILINEAR):
        self.size, self.p, self.interpolation = (height, width), p, interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.uniform(0, 1) > self.p:
            return F.resize(image, self.size, self.interpolation)
        larger = [round(side * 1.125) for side in self.size]
        left = round(random.uniform(0, larger[1] - self.size[1]))
        top = round(random.uniform(0, larger[0] - self.size[0]))
        return F.crop(F.resize(image, larger, self.interpolation), top, left, *self.size)


def any_magnitude(n: int, p: float = 1.0) -> T.Compose:
    """RandAugment of n operations, each with its own magnitude and applied with probability p."""
    one = T.RandomChoice([T.RandAugment(num_ops=1, magnitude=m) for m in range(31)])
    return T.Compose([T.RandomApply([one], p=p) for _ in range(n)])


# in the order of application; each takes cfg.INPUT and the interpolation
ON_IMAGES = {
    "random_translation": lambda c, mode: Random2DTranslation(*c.SIZE),
    "random_crop": lambda c, mode: T.RandomCrop(c.SIZE, padding=c.CROP_PADDING),
    "random_resized_crop": lambda c, mode: T.RandomResizedCrop(c.SIZE, scale=c.RRCROP_SCALE, interpolation=mode),
    "random_flip": lambda c, mode: T.RandomHorizontalFlip(),
    "imagenet_policy": lambda c, mode: T.AutoAugment(T.AutoAugmentPolicy.IMAGENET),
    "cifar10_policy": lambda c, mode: T.AutoAugment(T.AutoAugmentPolicy.CIFAR10),
    "svhn_policy": lambda c, mode: T.AutoAugment(T.AutoAugmentPolicy.SVHN),
    "randaugment": lambda c, mode: T.RandAugment(num_ops=c.RANDAUGMENT_N, magnitude=c.RANDAUGMENT_M),
    "randaugment_fixmatch": lambda c, mode: any_magnitude(c.RANDAUGMENT_N),
    "randaugment2": lambda c, mode: any_magnitude(c.RANDAUGMENT_N, p=0.6),
    "colorjitter": lambda c, mode: T.ColorJitter(c.COLORJITTER_B, c.COLORJITTER_C, c.COLORJITTER_S, c.COLORJITTER_H),
    "randomgrayscale": lambda c, mode: T.RandomGrayscale(p=c.RGS_P),
    "gaussian_blur": lambda c, mode: T.RandomApply([T.GaussianBlur(c.GB_K)], p=c.GB_P),
}
ON_TENSORS = {
    "cutout": lambda c: Cutout(c.CUTOUT_N, c.CUTOUT_LEN),
    "normalize": lambda c: T.Normalize(mean=c.PIXEL_MEAN, std=c.PIXEL_STD),
    "gaussian_noise": lambda c: GaussianNoise(c.GN_MEAN, c.GN_STD),
    "instance_norm": lambda c: InstanceNormalization(),
}
IN_TEST = ("normalize", "instance_norm")
AVAI_CHOICES = [*ON_IMAGES, *ON_TENSORS, "center_crop"]  # center_crop is always part of a test


def build_transform(cfg, is_train: bool = True, choices=None) -> T.Compose | None:
    """Training: the choices (INPUT.TRANSFORMS).  Test: resize the smaller edge, centre crop, normalisation.

    Where neither crop is chosen, training images are resized to INPUT.SIZE.  None with INPUT.NO_TRANSFORM.
    """
    inputs = cfg.INPUT
    if inputs.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = inputs.TRANSFORMS if choices is None else choices
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "INPUT.TRANSFORMS")
    check_availability(inputs.INTERPOLATION, INTERPOLATION_MODES, "INPUT.INTERPOLATION")
    mode = INTERPOLATION_MODES[inputs.INTERPOLATION]
    if is_train:
        steps = [make(inputs, mode) for name, make in ON_IMAGES.items() if name in choices]
        if not {"random_crop", "random_resized_crop"} & set(choices):
            steps.insert(0, T.Resize(inputs.SIZE, interpolation=mode))
    else:
        steps = [T.Resize(max(inputs.SIZE), interpolation=mode), T.CenterCrop(inputs.SIZE)]
    steps.append(T.ToTensor())
    steps += [make(inputs) for name, make in ON_TENSORS.items() if name in choices and (is_train or name in IN_TEST)]
    print(f"Transforms ({'train' if is_train else 'test'}): {', '.join(map(type_name, steps))}")
    return T.Compose(steps)


def type_name(step) -> str:
    return type(step).__name__
