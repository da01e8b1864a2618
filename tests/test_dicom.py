"""DICOM files as scanners write them: every photometric interpretation, blank tags, stored windows."""

import numpy as np
import pytest

from cilmp import images
from cilmp.errors import UserError

pydicom = pytest.importorskip("pydicom")

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


def rgb(path) -> np.ndarray:
    return np.asarray(images.read_image(str(path)))


def write(path, pixels, syntax: str = "1.2.840.10008.1.2.1", **tags):
    """Uncompressed; a tag given as None is there and blank."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = syntax, pydicom.uid.generate_uid()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    bits = pixels.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


def test_plain_and_inverted(tmp_path):
    write(tmp_path / "plain.dcm", RAMP * 10)
    assert np.array_equal(rgb(tmp_path / "plain.dcm")[..., 0], RAMP)
    write(tmp_path / "inverted.dcm", RAMP * 10, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(rgb(tmp_path / "inverted.dcm")[..., 0], 255 - RAMP)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_8_bits_are_left_alone(tmp_path, interpretation):
    values = (RAMP // 2 + 40).astype(np.uint8)
    tags = dict(RescaleSlope=1, RescaleIntercept=0, PhotometricInterpretation=interpretation)
    write(tmp_path / "eight.dcm", values, **tags)
    assert np.array_equal(rgb(tmp_path / "eight.dcm")[..., 0], values if interpretation[-1] == "2" else 255 - values)


def test_a_window_of_ct_numbers(tmp_path):
    """From -1024; a window of 256 around 0 cuts what lies outside."""
    tags = dict(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0.5, WindowWidth=256)
    write(tmp_path / "ct.dcm", RAMP * 8, **tags)
    values = rgb(tmp_path / "ct.dcm")[..., 0].astype(int)
    assert values[RAMP * 8 < 1024 - 128].max() == 0 and values[RAMP * 8 > 1024 + 128].min() == 255
    assert abs(values[RAMP * 8 == 1024].item() - 128) <= 1
    assert images.problem(str(tmp_path / "ct.dcm")) == ""


WINDOW = dict(WindowCenter=2000, WindowWidth=4000)


@pytest.mark.parametrize(
    "tags, grey",
    [
        (WINDOW, 64),
        (WINDOW | dict(VOILUTFunction="LINEAR_EXACT"), 64),
        (WINDOW | dict(VOILUTFunction="SIGMOID"), 255 / (1 + np.exp(1))),
        (WINDOW | dict(VOILUTFunction=None), 64),
        (WINDOW | dict(PhotometricInterpretation="MONOCHROME1"), 191),
        (dict(WindowCenter=[2000, 40], WindowWidth=[4000, 80]), 64),
        (WINDOW | dict(RescaleSlope=2, RescaleIntercept=0), 128),
        (WINDOW | dict(RescaleSlope=None, RescaleIntercept=None), 64),
    ],
)
def test_the_window_settles_the_grey(tmp_path, tags, grey):
    """A nearly uniform slice stays so: the same tissue has one grey in every slice."""
    write(tmp_path / "uniform.dcm", (1000 + RAMP % 4).astype(np.uint16), **tags)
    assert abs(rgb(tmp_path / "uniform.dcm").astype(float) - grey).max() <= 2


def test_a_window_of_an_enhanced_image(tmp_path):
    window, frame = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 2000, 4000
    frame.FrameVOILUTSequence = [window]
    write(tmp_path / "enhanced.dcm", (1000 + RAMP % 4).astype(np.uint16), SharedFunctionalGroupsSequence=[frame])
    assert abs(rgb(tmp_path / "enhanced.dcm").astype(int) - 64).max() <= 2


@pytest.mark.parametrize("bits, entries", [(8, 16), (8, 4096), (16, 4096), (12, 16)])
def test_a_voi_lut_settles_the_grey(tmp_path, bits, entries):
    lut = pydicom.Dataset()
    top = 2**bits - 1
    lut.LUTDescriptor = [entries, 1000, bits]
    lut.LUTData = np.array([min(i * top // 8, top) for i in range(entries)], "<u2").tobytes()
    values = (996 + RAMP % 16).astype(np.uint16)
    values[1, 0] = 1000 + 256 + 1  # beyond the table: its last entry
    write(tmp_path / "lut.dcm", values, VOILUTSequence=[lut])
    assert rgb(tmp_path / "lut.dcm")[1, 0, 0] == 255
    got = rgb(tmp_path / "lut.dcm")[0, :, 0].astype(int)
    assert abs(got - np.clip(np.arange(-4, 12) * 255 / 8, 0, 255)).max() <= 1


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_modality_lut(tmp_path, bits):
    """Its entries are then stretched, or left alone where they fit in 8 bits."""
    lut = pydicom.Dataset()
    lut.LUTDescriptor = [256, 0, bits]
    lut.LUTData = (np.arange(255, -1, -1) << bits - 8).astype("<u2").tobytes()
    write(tmp_path / "lut.dcm", RAMP, ModalityLUTSequence=[lut])
    assert np.array_equal(rgb(tmp_path / "lut.dcm")[..., 0], 255 - RAMP)


@pytest.mark.parametrize(
    "tags",
    [
        dict(WindowCenter=None, WindowWidth=None),
        dict(WindowCenter=100, WindowWidth=None),
        dict(WindowCenter=100, WindowWidth=0),
        dict(RescaleSlope=None, RescaleIntercept=None, VOILUTSequence=[], ModalityLUTSequence=[]),
        dict(PhotometricInterpretation=None, NumberOfFrames=None),
        dict(BitsStored=None, PixelRepresentation=None),
    ],
)
def test_a_blank_tag_is_no_tag(tmp_path, tags):
    write(tmp_path / "blank.dcm", RAMP * 10, **tags)
    assert np.array_equal(rgb(tmp_path / "blank.dcm")[..., 0], RAMP)


def test_the_first_frame_of_several(tmp_path):
    write(tmp_path / "frames.dcm", RAMP * 10, NumberOfFrames=2, PixelData=(RAMP * 10).tobytes() + (RAMP * 0).tobytes())
    assert np.array_equal(rgb(tmp_path / "frames.dcm")[..., 0], RAMP)


LEFT, RIGHT = (200, 40, 40), (20, 60, 220)


def halves() -> np.ndarray:
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:, :8], colours[:, 8:] = LEFT, RIGHT
    return colours


def require_halves(path, within: int) -> None:
    got = rgb(path).astype(int)
    assert abs(got[4, 3] - LEFT).max() <= within and abs(got[4, 12] - RIGHT).max() <= within


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL"])
def test_colours_stored_plainly(tmp_path, interpretation, planar):
    from PIL import Image

    stored = halves() if interpretation == "RGB" else np.asarray(Image.fromarray(halves()).convert("YCbCr"))
    tags = dict(PhotometricInterpretation=interpretation, PlanarConfiguration=planar)
    if planar:
        tags["PixelData"] = stored.transpose(2, 0, 1).tobytes()
    write(tmp_path / "colour.dcm", stored, **tags)
    require_halves(tmp_path / "colour.dcm", 2)


@pytest.mark.parametrize("interpretation", ["YBR_FULL_422", "YBR_FULL"])
def test_colours_stored_as_jpeg(tmp_path, interpretation):
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate

    jpeg = io.BytesIO()
    Image.fromarray(halves()).save(jpeg, "JPEG", quality=95)
    tags = dict(PhotometricInterpretation=interpretation, PixelData=encapsulate([jpeg.getvalue()]))
    write(tmp_path / "jpeg.dcm", halves(), "1.2.840.10008.1.2.4.50", **tags)
    require_halves(tmp_path / "jpeg.dcm", 8)


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_out_of_a_palette(tmp_path, bits):
    depth = np.uint8 if bits == 8 else np.uint16
    tags = dict(PhotometricInterpretation="PALETTE COLOR")
    for name, channel in zip(("Red", "Green", "Blue"), zip(LEFT, RIGHT, strict=True), strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, bits]
        tags[f"{name}PaletteColorLookupTableData"] = (np.array(channel, depth) << bits - 8).tobytes()
    write(tmp_path / "palette.dcm", np.arange(16, dtype=np.uint8).reshape(1, 16).repeat(16, 0) // 8, **tags)
    require_halves(tmp_path / "palette.dcm", 0)


def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "strange.dcm", RAMP, PhotometricInterpretation="HSV")
    with pytest.raises(UserError, match=r"strange.dcm \(its photometric interpretation HSV"):
        rgb(tmp_path / "strange.dcm")
    write(tmp_path / "report.dcm", RAMP)
    data = pydicom.dcmread(tmp_path / "report.dcm")
    del data.PixelData
    data.save_as(tmp_path / "report.dcm")
    assert images.problem(str(tmp_path / "report.dcm")) == "it holds no pixels"

    def no_decoder(*_, **__):
        raise RuntimeError("Unable to decompress: all plugins are missing dependencies:\n\tgdcm - x\n\tpylibjpeg - y")

    write(tmp_path / "lossless.dcm", RAMP)
    monkeypatch.setattr("pydicom.pixels.pixel_array", no_decoder)
    with pytest.raises(UserError, match="lossless.dcm .* pip install pylibjpeg") as told:
        rgb(tmp_path / "lossless.dcm")
    assert "\n" not in str(told.value)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UserError, match="lossless.dcm .* pip install 'pydicom"):
        rgb(tmp_path / "lossless.dcm")
