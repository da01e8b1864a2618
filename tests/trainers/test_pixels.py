"""Images are prepared as the backbone was trained on them, unless the configuration says otherwise."""

import pytest
from PIL import Image

from cilmp.clip.model import Pixels
from cilmp.trainers.engine import pixels
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.loading import Files, squashed

SIGLIP = Pixels((0.5,) * 3, (0.5,) * 3, "bilinear", "squash", 448)


def test_what_the_configuration_leaves_open_is_the_backbone_s():
    cfg = pixels.follow(default_cfg(), SIGLIP)
    told = dict(mean=[0.5] * 3, std=[0.5] * 3, size=(448, 448), interpolation="bilinear", resize="squash")
    assert pixels.used(cfg) == told


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("SIZE", (64, 64), "size"),
        ("PIXEL_MEAN", [0.1, 0.2, 0.3], "mean"),
        ("INTERPOLATION", "nearest", "interpolation"),
    ],
)
def test_what_it_says_stays(key, value, name):
    cfg = default_cfg()
    cfg.INPUT[key] = value
    followed = pixels.used(pixels.follow(cfg, SIGLIP))
    assert followed[name] == value and followed["std"] == [0.5] * 3
    assert cfg.INPUT.PIXEL_STD != [0.5] * 3  # the run's own configuration is as it was


def test_a_default_that_is_stated_stays_too():
    cfg = default_cfg()
    cfg.INPUT.KEPT = ["SIZE"]
    followed = pixels.used(pixels.follow(cfg, SIGLIP))
    assert followed["size"] == (224, 224) and followed["resize"] == "squash"


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_a_wide_image_is_cropped_or_squashed(resize, tmp_path):
    cfg = default_cfg()
    cfg.INPUT.SIZE, cfg.INPUT.RESIZE, cfg.INPUT.TRANSFORMS = (32, 32), resize, ()
    wide = Image.new("RGB", (96, 32))
    wide.paste((255, 255, 255), (0, 0, 16, 32))  # its left edge, which a crop loses
    wide.save(tmp_path / "wide.png")
    image, error = Files([str(tmp_path / "wide.png")], cfg)[0]
    assert error is None and image.shape == (3, 32, 32)
    assert (image[:, :, :4].mean() > 0.9) == (resize == "squash")
    assert squashed(wide, cfg).size == ((32, 32) if resize == "squash" else (96, 32))
