"""Batches that several workers read, as bytes, are those of the loader: same images, order, draws and numbers."""

import sys

import numpy as np
import pytest
import torch
from finished import trained
from models import random_clip
from PIL import Image
from torch.utils.data import Dataset

from cilmp import system
from cilmp.errors import UserError
from cilmp.trainers.coop import CoOp
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.loading import Images
from cilmp.trainers.engine.workers import Spread, as_bytes, joined
from dassl.data.data_manager import Loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform


class Numbers(Dataset):
    """Row i is i, with what the worker that reads it would draw left out of it."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        views = [torch.full((2,), i + view / 2) for view in range(2)]
        return {"img": torch.full((1, 2), float(i)), "label": i, "impath": f"{i}.png", "views": views}


def loader(count: int, batch: int, drop_last: bool) -> Loader:
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(1)
    sampler = torch.utils.data.RandomSampler(range(count))
    options = dict(num_workers=1, persistent_workers=True, generator=generator, drop_last=drop_last)
    return Loader(Numbers(count), batch_size=batch, sampler=sampler, **options)


@pytest.mark.parametrize(("count", "batch", "workers"), [(11, 4, 3), (8, 4, 2), (5, 8, 3), (3, 1, 2)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_batches_are_those_of_the_loader(count, batch, workers, drop_last):
    epochs, states = [], []
    for make in (lambda whole: whole, lambda whole: Spread(whole, workers)):
        batches = make(loader(count, batch, drop_last))
        epochs.append([list(batches) for _ in range(2)])
        assert [len(epoch) for epoch in epochs[-1]] == [len(batches)] * 2
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for theirs, ours in zip(*map(sum, epochs, ([], [])), strict=True):
        assert theirs["impath"] == ours["impath"]
        for key in ("img", "label"):
            torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=0)
        for one, other in zip(theirs["views"], ours["views"], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_every_worker_reads_a_part_of_a_small_epoch():
    batches = Spread(loader(8, 8, drop_last=True), 3)
    assert batches.loader.num_workers == 3
    assert (batches.batch_size, batches.num_workers, batches.drop_last) == (8, 1, True)  # as who made the loader has it
    assert not hasattr(batches, "no_such_thing")
    assert [len(part["label"]) for part in batches.loader] == [3, 3, 2]


def test_parts_of_one_batch_are_joined_whatever_they_hold():
    parts = [{"x": torch.ones(2, 3), "name": ["a", "b"]}, {"x": torch.zeros(1, 3), "name": ["c"]}]
    whole = joined(parts, pin=False)
    assert whole["x"].sum(1).tolist() == [3, 3, 0] and whole["name"] == ["a", "b", "c"]


def test_bytes_become_the_numbers_of_torchvision(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    items = [Datum(str(tmp_path / f"{i}.png"), i, classname=str(i)) for i in range(3)]
    cfg = default_cfg()
    cfg.INPUT.SIZE, cfg.SEED = (32, 32), 1
    own = Images(cfg, items, build_transform(cfg, is_train=True), is_train=True)
    sent, numbers = as_bytes(own)
    bytes_ = torch.stack([sent[i]["img"] for i in range(3)])
    assert bytes_.dtype == torch.uint8
    exact = torch.stack([own[i]["img"] for i in range(3)])
    assert torch.equal(numbers(bytes_), exact) and numbers(exact) is exact


@pytest.mark.parametrize("transforms", [("random_flip",), ("normalize", "cutout"), ("instance_norm",)])
def test_what_is_more_than_bytes_and_a_scale_is_left(transforms):
    cfg = default_cfg()
    cfg.INPUT.TRANSFORMS = transforms
    images = Images(cfg, [], build_transform(cfg, is_train=True), is_train=True)
    before = images.transform
    assert as_bytes(images) == (images, None) and images.transform is before


def test_bytes_are_no_images():
    with pytest.raises(UserError, match="parse_batch_test makes them"):
        random_clip(1, 1, 1).encode_image(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


class Own(CoOp):
    """As a trainer from elsewhere that reads its batches itself, with Dassl's lines."""

    def parse_batch_train(self, batch):
        assert batch["img"].is_floating_point()
        return batch["img"].to(self.device), batch["label"].to(self.device)


@pytest.mark.parametrize("kind", [CoOp, Own])
def test_who_parses_a_batch_itself_gets_numbers(kind, data, tmp_path, monkeypatch):
    """And goes on training after a training."""
    monkeypatch.setattr(system, "cores", lambda: 2)
    cfg = default_cfg()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.MODEL.BACKBONE.NAME = (
        "PHANTOMS",
        str(data),
        1,
        "tiny",
    )
    cfg.INPUT.SIZE, cfg.OUTPUT_DIR, cfg.USE_CUDA, cfg.SEED = (64, 64), str(tmp_path), False, 1
    cfg.DATALOADER.NUM_WORKERS, cfg.OPTIM.MAX_EPOCH, cfg.TEST.NO_TEST = 2, 1, True
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    trainer = kind.__new__(kind)
    cfg.TRAINER.OWN = cfg.TRAINER.COOP.clone()
    kind.__init__(trainer, cfg)
    trainer.train()
    assert (trainer.numbers is None) == (kind is Own)
    trainer.max_epoch = 2
    trainer.train()
    assert trainer.epoch == 1


@pytest.mark.slow
def test_a_run_ends_the_same_whoever_reads(data, tmp_path, monkeypatch):
    monkeypatch.setattr(system, "cores", lambda: 3)
    ends = []
    for workers in (0, 3):
        out = trained(data, tmp_path / str(workers), "DATALOADER.NUM_WORKERS", workers)
        ends.append(np.load(out / "predictions.npz")["logits"])
    assert np.array_equal(*ends)
