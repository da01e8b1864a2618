"""Every kind of image file becomes 8-bit RGB as documented; the memory of few training images is what the disk says."""

import io
import os
import struct
import traceback
import zlib

import numpy as np
import pytest
import torch
from downloads import paint
from PIL import Image

from cilmp import images
from cilmp.errors import UserError
from cilmp.trainers.engine.loading import Images, drawing
from dassl.config import get_cfg_default
from dassl.data.data_manager import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform


def rgb(path) -> np.ndarray:
    image = images.read_image(str(path))
    assert image.mode == "RGB"
    return np.asarray(image)


RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_than_8_bits_are_stretched(tmp_path, suffix):
    Image.fromarray(RAMP * 16 + 100).save(tmp_path / f"deep{suffix}")
    assert np.array_equal(rgb(tmp_path / f"deep{suffix}")[..., 0], RAMP)
    Image.fromarray(RAMP // 2).save(tmp_path / f"low{suffix}")
    assert np.array_equal(rgb(tmp_path / f"low{suffix}")[..., 1], RAMP // 2), "values that fit are left alone"


@pytest.mark.parametrize("scale, shift", [(1, 0), (4, -2), (255, 0), (1e-3, 7), (100, 0)])
def test_float_tiff_is_always_stretched(tmp_path, scale, shift):
    Image.fromarray((RAMP / 255 * scale + shift).astype(np.float32)).save(tmp_path / "float.tif")
    assert abs(rgb(tmp_path / "float.tif")[..., 2].astype(int) - RAMP).max() <= 1


def test_what_is_no_number_and_what_is_uniform(tmp_path):
    odd = RAMP.astype(np.float32)
    odd[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(odd).save(tmp_path / "odd.tif")
    got = rgb(tmp_path / "odd.tif")[..., 0]
    assert got[0, :3].tolist() == [0, 255, 0] and got[15, 15] == 255 and got[8, 0] == round((128 - 3) * 255 / 252)
    for values in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 4000, np.uint16), np.full((4, 4), np.nan, "f4")):
        Image.fromarray(values).save(tmp_path / "flat.tif")
        assert not rgb(tmp_path / "flat.tif").any()


def png(values: np.ndarray, colour_type: int) -> bytes:
    """(H, W, channels) of 16 bits, each row as differences to its left (filter 1): Pillow writes no such file."""
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8).reshape(len(values), -1).astype(int)
    left = np.pad(rows, ((0, 0), (2 * values.shape[2], 0)))[:, : rows.shape[1]]
    data = b"".join(b"\1" + row.tobytes() for row in ((rows - left) % 256).astype(np.uint8))

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values: np.ndarray, order: str) -> bytes:
    """(H, W, 3) of 16 bits, plain; order: < or >."""
    height, width, _ = values.shape
    tags = {256: (4, width), 257: (4, height), 258: (3, 16), 259: (3, 1), 262: (3, 2), 273: (4, 0), 277: (3, 3)}
    tags |= {278: (4, height), 279: (4, values.size * 2)}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[258], tags[273] = (3, start), (4, start + 6)
    out = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        short = kind == 3 and tag != 258
        cell = struct.pack(order + ("HH" if short else "I"), *((value, 0) if short else (value,)))
        out += struct.pack(order + "HHI", tag, kind, 3 if tag == 258 else 1) + cell
    return out + bytes(4) + struct.pack(order + "HHH", 16, 16, 16) + values.astype(order + "u2").tobytes()


TWELVE = (np.arange(16 * 16 * 3) * 5 + 100).reshape(16, 16, 3).astype(np.uint16)  # 12 bits, as cameras write them


@pytest.mark.parametrize("kind", ["png", "tiff <", "tiff >"])
def test_colours_of_more_than_8_bits_are_stretched_together(tmp_path, kind):
    """Pillow alone keeps the upper byte: 0 to 15 of 255 here."""
    path = tmp_path / "deep"
    path.write_bytes(png(TWELVE, 2) if kind == "png" else tiff(TWELVE, kind[-1]))
    assert np.array_equal(rgb(path), ((TWELVE - 100.0) * 255 / (TWELVE.max() - 100)).round())
    path.write_bytes(png(TWELVE // 20, 2) if kind == "png" else tiff(TWELVE // 20, kind[-1]))
    assert np.array_equal(rgb(path), TWELVE // 20), "values that fit are left alone"


@pytest.mark.parametrize("colour_type, channels", [(6, 4), (4, 2)])
def test_alpha_of_16_bits_is_laid_on_black(tmp_path, colour_type, channels):
    values = TWELVE[..., :1].repeat(channels, -1)
    values[..., -1] = 65535
    values[0, :, -1] = 0
    (tmp_path / "alpha.png").write_bytes(png(values, colour_type))
    expected = values[..., 0].astype(float)
    expected[0] = 0
    assert np.array_equal(rgb(tmp_path / "alpha.png")[..., 1], (expected * 255 / expected.max()).round())


def test_palette_and_alpha(tmp_path):
    colours = np.zeros((4, 4, 4), np.uint8)
    colours[:2] = (200, 100, 50, 255)
    colours[2:] = (255, 255, 255, 0)  # a colour nobody sees
    Image.fromarray(colours).save(tmp_path / "alpha.png")
    assert rgb(tmp_path / "alpha.png")[0, 0].tolist() == [200, 100, 50]
    assert rgb(tmp_path / "alpha.png")[3, 3].tolist() == [0, 0, 0]
    Image.fromarray(colours[..., :3]).quantize(2).save(tmp_path / "palette.png")
    assert np.array_equal(rgb(tmp_path / "palette.png"), colours[..., :3])
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "bits.png")
    assert rgb(tmp_path / "bits.png")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_damage_is_seen_before_the_run(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    paint(path)
    assert images.problem(str(path)) == ""
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) * 2 // 3], b"", b"no image at all"):
        path.write_bytes(damaged)
        assert images.problem(str(path)), (suffix, len(damaged))
        with pytest.raises(UserError, match="image"):
            images.read_image(str(path))


@pytest.mark.parametrize("size", [40, 400])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_damaged_for_every_reader(tmp_path, size, progressive):
    """Zeros, as a download that reserved its file and did not fill it; what follows a whole image is no damage."""
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    thumbnail = io.BytesIO()
    Image.fromarray(noise[:16, :16]).save(thumbnail, "JPEG")
    path, exif = tmp_path / "image.jpg", b"Exif\0\0" + thumbnail.getvalue()  # its end marker is not the image's
    Image.fromarray(noise).save(path, progressive=progressive, exif=exif)
    whole = path.read_bytes()
    assert whole.count(b"\xff\xd9") == 2
    for trailer in (b"", bytes(1000), b"a camera's own notes" * 100):
        path.write_bytes(whole + trailer)
        assert images.problem(str(path)) == "" and rgb(path).shape == (size, size, 3)
    half = whole[: len(whole) * 2 // 3]
    path.write_bytes(half + bytes(len(whole) - len(half)))
    assert "without its end" in images.problem(str(path))
    with pytest.raises(UserError, match="image.jpg .*without its end"):
        images.read_image(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_is_not_opened(tmp_path):
    """Opening a FIFO waits for its other end."""
    os.mkfifo(tmp_path / "fifo.png")
    for path in (tmp_path / "fifo.png", tmp_path):
        with pytest.raises(UserError, match="not a file but"):
            images.read_image(str(path))
        assert "not a file but" in images.problem(str(path))


def test_unreadable_ones_are_counted_and_named(tmp_path):
    files = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, file in enumerate(files):
        paint(tmp_path / f"{i}.png")
        if i % 2:
            open(file, "wb").close()
    with pytest.raises(UserError, match=r"3 of 6 images cannot be read: .*1\.png .*3\.png .*5\.png"):
        images.require_readable(files)


def settings(cache: int = 0):
    cfg = get_cfg_default()
    cfg.set_new_allowed(True)
    cfg.DATASET.CACHE_MB, cfg.INPUT.SIZE = cache, (32, 32)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    return cfg


@pytest.fixture
def items(tmp_path):
    for i in range(6):
        paint(tmp_path / f"{i}.png", side=40 if i % 2 else 200)
    return [Datum(str(tmp_path / f"{i}.png"), i % 3, classname="abc"[i % 3]) for i in range(6)]


@pytest.mark.parametrize("train", [False, True])
def test_batches_are_dassl_own(items, train):
    cfg = settings()
    transform = build_transform(cfg, is_train=train)
    ours, theirs = (kind(cfg, items, transform, train) for kind in (Images, DatasetWrapper))
    for i in range(len(items)):
        a = ours[i]
        with drawing(ours.seed, 0, i):
            b = theirs[i]
        assert a.keys() == b.keys() and torch.equal(a.pop("img"), b.pop("img")) and a == b


def test_memory_holds_what_the_disk_holds(items):
    cfg, transform = settings(cache=1), build_transform(settings(), is_train=True)
    kept = Images(cfg, items, transform, is_train=True)
    assert [shape[1:] for shape in kept.shapes] == [(64, 64), (40, 40)] * 3  # at most twice INPUT.SIZE, never enlarged
    assert np.array_equal(np.asarray(kept.image(1)), rgb(items[1].impath))
    loader = torch.utils.data.DataLoader(kept, batch_size=2, num_workers=2)
    assert sum(len(batch["label"]) for batch in loader) == 6
    assert Images(cfg, items, transform, is_train=False).memory is None


def test_memory_that_does_not_fit_is_left(items, capsys):
    cfg = settings(cache=1)
    cfg.INPUT.SIZE = (2000, 2000)
    kept = Images(cfg, items * 10, None, is_train=True)
    assert kept.memory is None and "read from disk" in capsys.readouterr().out


def test_a_worker_names_the_file_in_one_line(items, tmp_path):
    (tmp_path / "3.png").write_bytes(b"broken")
    loader = torch.utils.data.DataLoader(Images(settings(), items, build_transform(settings(), False)), num_workers=1)
    with pytest.raises(UserError, match=r"^Cannot read the image \S*3.png .*\.$") as caught:
        list(loader)
    traceback.clear_frames(caught.tb)  # a loader left to the garbage collector waits five seconds for each worker
