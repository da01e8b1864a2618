"""Batches cropped where the images lie are those of the workers: the same crops, flips, order, draws, and pixels."""

import random

import numpy as np
import pytest
import torch
from finished import trained
from PIL import Image

from cilmp.errors import UserError
from cilmp.results import records
from cilmp.trainers.engine import crops, parallel
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.loading import Images
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform

SIZES = ((40, 50), (96, 64), (33, 200), (150, 21), (64, 64), (20, 20), (90, 120))  # height, width
CPU = torch.device("cpu")


@pytest.fixture
def items(tmp_path):
    for i, size in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return [Datum(str(tmp_path / f"{i}.png"), i % 3, classname="abc"[i % 3]) for i in range(len(SIZES))]


def settings(**inputs):
    cfg = default_cfg()
    cfg.SEED, cfg.INPUT.SIZE, cfg.DATASET.CACHE_MB = 1, (32, 32), 1
    cfg.DATALOADER.AUGMENT, cfg.DATALOADER.NUM_WORKERS = "device", 0
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return cfg


def loader(cfg, items, batch=3):
    transform = build_transform(cfg, is_train=True)
    return build_data_loader(cfg, "RandomSampler", items, batch, tfm=transform, dataset_wrapper=Images)


@pytest.fixture
def across_then_down(monkeypatch):
    """Pillow with one side at a time, as it resizes both in versions before 13."""
    whole = Image.Image.resize

    def resize(image, size, *args, **options):
        return whole(whole(image, (size[0], image.height), *args, **options), size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", resize)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"INTERPOLATION": "bilinear"},
        {"SIZE": (24, 48)},
        {"TRANSFORMS": ("random_flip",)},
        {"TRANSFORMS": ("random_resized_crop", "normalize"), "RRCROP_SCALE": (0.01, 0.2)},
    ],
)
def test_pixels_are_those_of_the_workers(items, across_then_down, inputs):
    whole = loader(settings(**inputs), items)
    ours, cropper = crops.on_device(whole, CPU)
    for epoch in range(3):
        whole.dataset.epoch.fill_(epoch)
        those = list(range(len(items)))
        drawn = torch.stack([item["img"] for item in ours.dataset.__getitems__(those)])
        exact = torch.stack([whole.dataset[i]["img"] for i in those])
        assert torch.equal(cropper(drawn), exact)


def test_whatever_order_pillow_resizes_in_a_pixel_hardly_differs(items):
    whole = loader(settings(TRANSFORMS=("random_resized_crop", "random_flip")), items)
    ours, cropper = crops.on_device(whole, CPU)
    drawn = torch.stack([ours.dataset[i]["img"] for i in range(len(items))])
    away = (cropper(drawn) - torch.stack([whole.dataset[i]["img"] for i in range(len(items))])).abs() * 255
    assert away.mean() < 0.5 and away.max() < 40, "noise is the worst of images"


@pytest.mark.parametrize("batch", [3, 7, 9])
def test_order_and_draws_are_those_of_the_loader(items, batch):
    """The last short batch is dropped, unless it is the only one."""
    seen, states = [], []
    for device in (False, True):
        torch.manual_seed(3)
        batches = loader(settings(), items, batch)
        batches, shown = crops.on_device(batches, CPU) if device else (batches, lambda image: image)
        found = []
        for epoch in range(2):
            batches.dataset.epoch.fill_(epoch)
            found += [(part["label"], shown(part["img"])) for part in batches]
        seen.append(found)
        states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
    assert states[0] == states[1] and len(seen[0]) == len(seen[1]) == 2 * max(1, len(items) // batch)
    for (label, image), (same, other) in zip(*seen, strict=True):
        assert torch.equal(label, same) and image.shape == other.shape
        assert (image - other).abs().mean() < 0.02, "other images would be 1 away"


def test_the_host_does_not_wait_for_what_is_on_the_device(items):
    """On `meta` a value that is asked for is an error."""
    ours, cropper = crops.on_device(loader(settings(), items), CPU)
    cropper.pixels = cropper.pixels.to("meta")
    for batch in ours:
        assert cropper(batch["img"]).shape == (3, 3, 32, 32)


def test_each_process_crops_its_own_share(items, monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 2)
    seen = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        ours, _ = crops.on_device(parallel.share(loader(settings(), items[:6]), 1), CPU)
        ours.sampler.set_epoch(1)
        seen += [first for batch in ours for first in batch["img"][:, 0].tolist()]
    assert len(set(seen)) == 6


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("INPUT.TRANSFORMS", ("random_flip", "colorjitter", "cutout"), "INPUT.TRANSFORMS has colorjitter, cutout"),
        ("INPUT.NO_TRANSFORM", True, "INPUT.NO_TRANSFORM"),
        ("INPUT.INTERPOLATION", "nearest", "INPUT.INTERPOLATION"),
        ("DATALOADER.K_TRANSFORMS", 2, "K_TRANSFORMS is 2"),
        ("DATASET.CACHE_MB", 0, "DATASET.CACHE_MB.* is 0"),
    ],
)
def test_what_cannot_be_is_refused(key, value, word):
    cfg = settings()
    assert crops.wanted(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=word):
        crops.wanted(cfg)
    cfg.DATALOADER.AUGMENT = "workers"
    assert not crops.wanted(cfg)


def test_images_that_do_not_fit_are_refused(items):
    cfg = settings(SIZE=(2000, 2000))
    with pytest.raises(UserError, match="more than DATASET.CACHE_MB 1: raise it"):
        crops.on_device(loader(cfg, items * 20), CPU)


def test_features_are_made_as_ever(data, tmp_path):
    trained(data, tmp_path, "DATALOADER.AUGMENT", "device", trainer="ZeroshotCLIP")


def test_a_run_ends_as_that_of_the_workers(data, tmp_path, across_then_down):
    """Two epochs; then without cropping on the device; then the second epoch alone, behind the first."""
    same = "DATASET.CACHE_MB", 20, "OPTIM.MAX_EPOCH", 2
    ends = []
    for augment in ("device", "workers", "device"):
        out = tmp_path / str(len(ends))
        if len(ends) == 2:
            trained(data, out, *same, "DATALOADER.AUGMENT", augment)
            (out / records.NAME).unlink()
            (out / "prompt_learner" / "model.pth.tar-2").unlink()
            (out / "prompt_learner" / "checkpoint").write_text("model.pth.tar-1\n")
        trained(data, out, *same, "DATALOADER.AUGMENT", augment)
        ends.append(np.load(out / "predictions.npz")["logits"])
    assert np.isfinite(ends[0]).all()
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[0], ends[2])
