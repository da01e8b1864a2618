"""Features of frozen towers: computed once, the same numbers with and without the cache."""

import pytest
import torch
from test_contract import SIZES, build

from cilmp.clip.backbones import TINY
from cilmp.trainers.engine.loading import Images, pipeline
from dassl.data.transforms import build_transform

pytestmark = pytest.mark.slow  # whole runs

METHODS = ["ZeroshotCLIP", "TipAdapter", "TipAdapterF", "CLIPAdapter", "LPPlusPlus", "GDA", "SSTextPlus"]


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """run(trainer, folder, limit) -> (images that went through the tower, logits of the test)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(name: str, folder: str, limit: int | None = None) -> tuple[int, torch.Tensor]:
        trainer, seen = build(name, tmp_path / folder, data, TINY, SIZES["vit"], seed=1), []
        if limit is not None:
            trainer.kept.limit = limit
        trainer.model.clip.visual.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
        trainer.train()
        trainer.test()
        return sum(seen), trainer.evaluator.logits

    return call


@pytest.mark.parametrize("name", METHODS)
def test_a_second_run_sends_no_image_through_the_tower_and_ends_in_the_same_numbers(run, name):
    first, logits = run(name, "first")
    second, again = run(name, "second")
    off, without = run(name, "off", limit=0)
    assert first > 0 and second == 0 and off >= first
    assert torch.equal(again, logits)
    torch.testing.assert_close(without, logits, rtol=1e-4, atol=1e-4)


def test_methods_share_features(run):
    assert run("SSTextPlus", "text")[0] > 0
    assert run("ZeroshotCLIP", "zero")[0] == 0


def test_augmented_views_are_those_of_the_first_epochs(data, tmp_path):
    trainer = build("CLIPAdapter", tmp_path, data, TINY, SIZES["vit"], seed=1)
    trainer.cfg.defrost()
    trainer.cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    items = trainer.dm.dataset.train_x
    images = Images(trainer.cfg, items, transform=build_transform(trainer.cfg, is_train=True), is_train=True)
    found = trainer.features(items, views=2).x
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    for epoch in range(2):
        images.epoch.fill_(epoch)
        with torch.no_grad():
            seen = trainer.model.image(torch.stack([images[i]["img"] for i in range(len(items))]))
        torch.testing.assert_close(found[epoch], seen, rtol=1e-4, atol=1e-4)


def test_pixels_tell_apart_what_is_seen_otherwise(data, tmp_path):
    cfg = build("CLIPAdapter", tmp_path, data, TINY, SIZES["vit"], seed=1).cfg
    cfg.defrost()
    before = {augmented: pipeline(cfg, augmented) for augmented in (False, True)}
    cfg.INPUT.RRCROP_SCALE = (0.2, 0.3)  # of no interest to a test
    assert pipeline(cfg, False) == before[False] and pipeline(cfg, True) != before[True]
    cfg.INPUT.PIXEL_MEAN = [0.5, 0.5, 0.5]
    assert pipeline(cfg, False) != before[False]


@pytest.mark.parametrize("name", ["TipAdapter", "TipAdapterF"])
def test_what_has_a_row_for_each_training_image_loads_into_a_method_that_has_seen_none(data, tmp_path, name):
    trainer = build(name, tmp_path, data, TINY, SIZES["vit"], seed=1)
    trainer.train()
    image = torch.randn(3, trainer.model.clip.embed)
    alone = type(trainer)(trainer.cfg, classnames=trainer.classnames, device="cpu")
    alone.load_model(str(tmp_path))
    alone.set_model_mode("eval")
    assert len(alone.model.keys) == len(trainer.dm.dataset.train_x)
    assert torch.equal(alone.model_inference(image), trainer.model_inference(image))


def test_a_resumed_run_ends_in_the_same_numbers(data, tmp_path):
    whole = build("CLIPAdapter", tmp_path / "whole", data, TINY, SIZES["vit"], seed=1)
    whole.train()
    folder = tmp_path / "cut" / "clip_adapter"
    folder.mkdir(parents=True)
    (folder / "model.pth.tar-1").write_bytes((tmp_path / "whole/clip_adapter/model.pth.tar-1").read_bytes())
    (folder / "checkpoint").write_text("model.pth.tar-1\n")
    cut = build("CLIPAdapter", tmp_path / "cut", data, TINY, SIZES["vit"], seed=2)
    cut.train()
    assert cut.start_epoch == 1
    for (key, ours), theirs in zip(cut.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_the_linear_probe_sees_no_cache(run, tmp_path):
    """A fit with next to no regularisation turns what shared a batch, in the last bits, into points of accuracy."""
    assert run("LinearProbe", "probe")[0] > 0
    assert not list(tmp_path.rglob("features/*/*.safetensors"))
