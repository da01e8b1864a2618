"""Downloads that did not arrive whole, that lead out of their place, or that come to one where others lie."""

import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from downloads import DOWNLOADS, table

from cilmp.datasets import splits
from cilmp.datasets.prepare import export
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree

ROWS = [(f"{name}/{i:02}.png", name) for name in ("ill", "well") for i in range(12)]  # a table of two_classes


def items(root: Path) -> list[splits.Item]:
    return [item for part in splits.read(root / "split.json").values() for item in part]


def packed(path: Path, names: list[str], images: Path, **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, image in zip(names, sorted(images.rglob("*.png")), strict=False):
            archive.writestr(zipfile.ZipInfo(name), image.read_bytes(), archive.compression)  # the name as it is
    return path


NAMES = [f"{name}/{i}.png" for name in ("ill", "well") for i in range(12)]


def flip(data: bytearray) -> None:
    data[len(data) // 8] ^= 255


def cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def empty(data: bytearray) -> None:
    data.clear()


def lock(data: bytearray) -> None:
    at = data.find(b"PK\1\2")
    while at >= 0:
        struct.pack_into("<H", data, at + 8, 1)
        at = data.find(b"PK\1\2", at + 1)


@pytest.mark.parametrize("inside", [False, True], ids=["the download", "a zip in a folder"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("harm, word", [(flip, "damaged"), (cut, "cut off"), (empty, "cut off"), (lock, "encrypted")])
def test_a_zip_that_did_not_arrive_whole(harm, word, method, inside, prepare, tmp_path):
    data = bytearray(packed(tmp_path / "a.zip", NAMES, tmp_path / "scans", compression=method).read_bytes())
    harm(data)
    place = tmp_path / ("folder/a.zip" if inside else "a.zip")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    said = prepare(source="folder" if inside else "a.zip", fails=True)
    assert "a.zip" in said and word in said, said
    assert not list((tmp_path / "root").rglob("*.png")), "nothing is written"


@pytest.mark.parametrize(
    "name", ["../{}.png", "../../x/{}.png", "/tmp/x/{}.png", "..\\x\\{}.png", "C:/x/{}.png", "ill/../../{}.png"]
)
def test_no_member_leads_out_of_its_place(name, prepare, tmp_path):
    packed(tmp_path / "a.zip", [name.format(i) for i in range(12)] + NAMES[:12], tmp_path / "scans")
    assert "lead out of it" in prepare(source="a.zip", fails=True)
    assert not list(tmp_path.glob("*.png")) and not (tmp_path / "root").exists()


def test_folders_that_a_program_wrote_with_backslashes(prepare, tmp_path):
    packed(tmp_path / "a.zip", [f".\\scans\\{name}".replace("/", "\\") for name in NAMES], tmp_path / "scans")
    prepare(source="a.zip")
    assert {item.classname for item in items(tmp_path / "root")} == {"ill", "well"}


@pytest.mark.parametrize("label", ["..", ".", "../..", "/etc", "a/../../b", "C:\\x", "con<>|?*"])
def test_no_label_leads_out_of_its_place(label, prepare, tmp_path):
    rows = [(path, label if name == "ill" else name) for path, name in ROWS]
    table(tmp_path / "scans/labels.csv", "path,label", rows)
    prepare("--table", "labels.csv")
    images = (tmp_path / "root/images").resolve()
    places = [images / item.path for item in items(tmp_path / "root")]
    assert len(set(places)) == 24 and all(place.is_file() and place.parent.parent == images for place in places)
    assert {item.classname for item in items(tmp_path / "root")} == {label, "well"}


def test_classes_that_share_a_folder_do_not_share_images():
    records = [Record(f"{i}/x.png", name) for i, name in enumerate(("a b", "a/b", "a?b", "a b"))]
    assert len({name.lower() for name in export.targets(records)}) == 4
    same = [Record("x.png", name) for name in ("a b", "a/b", "a?b")]
    assert len(set(export.targets(same))) == 3


def medmnist(path: Path, side: int = 28, **changed) -> Path:
    rng, arrays = np.random.default_rng(side), {}
    for part, n in (("train", 24), ("val", 4), ("test", 8)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, side, side), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(path, **{k: v for k, v in (arrays | changed).items() if v is not None})
    return path


@pytest.mark.parametrize("colour", [(), (3,)])
def test_arrays_in_columns_give_the_same_pictures(colour, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4, *colour), np.uint8)
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(images), b=np.moveaxis(images, 0, -1).copy().transpose())
    tree = Tree(tmp_path / "x.npz")
    assert all(np.array_equal(tree.stack("x.npz", "a")[i], images[i]) for i in (3, 0, 5))


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(train_images=np.zeros((24, 28, 28), np.float32)), "not uint8 images"),
        (dict(train_images=np.zeros((24, 3, 28, 28), np.uint8)), "not uint8 images"),
        (dict(train_images=np.zeros((24, 28), np.uint8)), "not uint8 images"),
        (dict(train_labels=np.zeros((24, 2), np.uint8)), "24 train images and 48 labels"),
        (dict(train_labels=np.zeros((20, 1), np.uint8)), "24 train images and 20 labels"),
        (dict(train_labels=np.full((24, 1), 2)), "A label of the download is 2, not 0 to 1"),
        (dict(train_labels=np.full((24, 1), -1)), "A label of the download is -1"),
        (dict(test_labels=None), "no array test_labels"),
        (dict(test_images=None), "no array test_images"),
        (dict(train_labels=np.array([[None]] * 24)), "cannot be read"),
    ],
)
def test_arrays_that_are_no_medmnist(changed, message, prepare, tmp_path):
    medmnist(tmp_path / "pneumoniamnist.npz", **changed)
    assert message in prepare(name="PNEUMONIA2", source="pneumoniamnist.npz", fails=True)


def test_a_cut_array_file(prepare, tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    path.write_bytes(path.read_bytes()[:9000])
    assert "cut off" in prepare(name="PNEUMONIA2", source="pneumoniamnist.npz", fails=True)


@pytest.mark.parametrize("second", [dict(side=64), dict(side=28, train_images=np.ones((24, 28, 28), np.uint8))])
def test_images_of_another_download_are_not_taken_for_this_ones(second, prepare, tmp_path):
    medmnist(tmp_path / "pneumoniamnist.npz")
    prepare(name="PNEUMONIA2", source="pneumoniamnist.npz")
    prepare(name="PNEUMONIA2", source="pneumoniamnist.npz")  # the same again
    (tmp_path / "b").mkdir()
    medmnist(tmp_path / "b/pneumoniamnist.npz", **second)
    said = prepare(name="PNEUMONIA2", source="b/pneumoniamnist.npz", fails=True)
    assert "holds 36 images made from pneumoniamnist.npz of 28 x 28 pixels" in said and "another --root" in said
    note = tmp_path / "root/pneumonia/pneumonia2.source.json"
    assert json.loads(note.read_text())["pixels"] == [28, 28]


def test_copied_images_of_other_content_are_not_taken_for_this_downloads(prepare, tmp_path):
    prepare("--copy")
    with open(tmp_path / "root/images/ill/03.png", "ab") as file:
        file.write(b"other")
    split = tmp_path / "root/split.json"
    split.unlink()
    assert "such as ill/03.png" in prepare("--copy", fails=True)


def no_links(*_, **__):
    raise PermissionError(1, "Operation not permitted")


def test_where_no_links_can_be_made_images_are_copied(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "symlink", no_links)
    assert prepare().count("images are copied") == 1
    copies = list((tmp_path / "root/images").rglob("*.png"))
    assert len(copies) == 24 and not any(path.is_symlink() for path in copies)


def read_only(monkeypatch, place: Path) -> None:
    import errno

    real = os.mkdir

    def mkdir(path, *args, **kwargs):
        if str(place) in os.path.abspath(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", mkdir)


def test_a_root_that_cannot_be_written(prepare, tmp_path, monkeypatch):
    read_only(monkeypatch, tmp_path / "root")
    assert "Read-only file system): check --root" in prepare(fails=True)


@pytest.mark.parametrize("where", ["--root", "the cache"])
def test_phantoms_where_nothing_can_be_written(where, tmp_path, monkeypatch):
    from test_read import read

    from cilmp.errors import UserError

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read_only(monkeypatch, tmp_path)
    with pytest.raises(UserError, match="Read-only file system.*--root"):
        read(tmp_path if where == "--root" else "", "PHANTOMS")


def test_a_second_copy_of_a_published_download(tmp_path, run):
    """The layout of the public archive: both copies and the archiver's own folder."""
    source = tmp_path / "kaggle"
    DOWNLOADS["PNEUMONIA2"](source)
    shutil.copytree(source / "chest_xray", tmp_path / "copy")
    (tmp_path / "copy").rename(source / "chest_xray/chest_xray")
    shutil.copytree(source / "chest_xray/train", source / "chest_xray/__MACOSX/train")
    said = run("prepare", "PNEUMONIA2", "--source", str(source), "--root", str(tmp_path / "root"))
    split = splits.read(tmp_path / "root/pneumonia/pneumonia2.json")
    assert [len(split[name]) for name in splits.NAMES] == [32, 4, 12]
    assert "chest_xray/chest_xray repeats chest_xray: its 48 images are taken once" in said
