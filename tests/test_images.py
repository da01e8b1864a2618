"""Every kind of image file becomes 8-bit RGB as documented; the memory of few training images is what the disk says."""

import traceback

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


def test_float_tiff(tmp_path):
    Image.fromarray((RAMP / 255).astype(np.float32) * 4 - 2).save(tmp_path / "float.tif")
    assert np.array_equal(rgb(tmp_path / "float.tif")[..., 2], RAMP)


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


def dicom(path, pixels, **tags):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = *pixels.shape, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


def test_dicom_windowed_inverted_and_plain(tmp_path):
    dicom(tmp_path / "plain.dcm", RAMP * 10)
    assert np.array_equal(rgb(tmp_path / "plain.dcm")[..., 0], RAMP)
    dicom(tmp_path / "inverted.dcm", RAMP * 10, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(rgb(tmp_path / "inverted.dcm")[..., 0], 255 - RAMP)
    # CT numbers from -1024; a window of 256 around 0 cuts what lies outside
    hounsfield = dict(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0.5, WindowWidth=256)
    dicom(tmp_path / "ct.dcm", RAMP * 8, **hounsfield)
    values = rgb(tmp_path / "ct.dcm")[..., 0].astype(int)
    assert values[RAMP * 8 < 1024 - 128].max() == 0 and values[RAMP * 8 > 1024 + 128].min() == 255
    assert abs(values[RAMP * 8 == 1024].item() - 128) <= 1
    assert images.problem(str(tmp_path / "ct.dcm")) == ""


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
