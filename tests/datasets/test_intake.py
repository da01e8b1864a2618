"""What a download loses on its way in: nothing, or it is refused in one line that names it, or it is told."""

import json
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from downloads import DOWNLOADS, paint, table

from cilmp.datasets import splits
from cilmp.datasets.prepare import export
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree


def two_classes(folder: Path, n: int = 12) -> Path:
    for name in ("ill", "well"):
        for i in range(n):
            paint(folder / name / f"{i:02}.png")
    return folder


ROWS = [(f"{name}/{i:02}.png", name) for name in ("ill", "well") for i in range(12)]  # a table of two_classes


@pytest.fixture
def prepare(tmp_path, run):
    """`prepare NAME` of the folder scans: what it prints."""
    two_classes(tmp_path / "scans")

    def program(*words: str, name: str = "FOLDER", source: str = "scans", fails: bool = False) -> str:
        where = ("--source", str(tmp_path / source), "--root", str(tmp_path / "root"))
        out = run("prepare", name, *where, *words, fails=fails)
        if fails:
            assert not (tmp_path / "root/split.json").exists()
        return out

    return program


def items(root: Path) -> list[splits.Item]:
    return [item for part in splits.read(root / "split.json").values() for item in part]


def edited(rows: list, at: int, *cells) -> list:
    return [*rows[:at], cells, *rows[at + 1 :]]


FULL = [(*row, f"P{i // 2}", "train" if i % 12 < 8 else "test") for i, row in enumerate(ROWS)]
TABLES = {  # header, rows, options, what is said
    "no such group": ("path,label,PatientID,s", FULL, "--group patient_id", "no column patient_id; it has path, label"),
    "no such label": ("path,label,g,s", FULL, "--label finding", "no column finding"),
    "no such path": ("file,label,g,s", FULL, "", "no column path"),
    "two columns of one name": ("path,label,label,s", FULL, "", "two columns label"),
    "columns that differ in case": ("Path,LABEL,Label,s", FULL, "--label label", "no column label"),
    "an empty class": ("path,label,g,s", edited(FULL, 3, "ill/03.png", " ", ""), "", "label .* 1 of 24 rows .*ill/03"),
    "an empty path": ("path,label,g,s", edited(FULL, 3, "", "ill", "", ""), "", "path .* 1 of 24 rows .row 5"),
    "a blank split": ("path,label,g,split", edited(FULL, 5, *FULL[5][:3], ""), "", "1 of 24 images .*ill/05.png"),
    "a split of another name": ("path,label,g,Split", edited(FULL, 5, *FULL[5][:3], "fold 2"), "", "names fold 2"),
    "two classes for one image": ("path,label,g,s", [*FULL, ("ill/03.png", "well", "P1", "")], "", "'ill' and 'well'"),
    "two splits for one image": ("path,label,g,split", [*FULL, (*FULL[3][:3], "test")], "", "split 'train' and 'test'"),
    "two patients for one image": ("path,label,group,s", [*FULL, (*FULL[3][:2], "P9", "")], "", "group 'P1' and 'P9'"),
    "an unquoted comma": ("path,label", [*ROWS, ("ill/03.png", "ill", "very")], "", "Row 26 .* has 3 cells"),
    "one class": ("path,label,g,s", [r for r in FULL if r[1] == "ill"], "", "All 12 images are of one class, 'ill'"),
    "one class in two cases": ("path,label,g,s", edited(FULL, 3, "ill/03.png", "ILL"), "", "'ILL' and 'ill' differ"),
    "a missing image": ("path,label", edited(ROWS, 3, "ill/99.png", "ill"), "", "1 images .*: ill/99.png"),
    "another extension": ("path,label", edited(ROWS, 3, "ill/03.dcm", "ill"), "", "differs .* is ill/03.png"),
    "names that fit two": ("path,label", [("03", "ill"), ("04", "well")], "", "'03' fits 2 different images"),
    "one image by two names": ("path,label", [*ROWS, ("ill/03", "ill")], "", "as ill/03.png and as ill/03:"),
    "nothing": ("path,label", [], "", "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_does_not_say_what_it_seems_to(kind, prepare, tmp_path):
    header, rows, options, message = TABLES[kind]
    table(tmp_path / "scans/labels.csv", header, rows)
    said = prepare("--table", "labels.csv", *options.split(), fails=True)
    assert re.search(message, said), said


@pytest.mark.parametrize(
    "words, message",
    [
        ("--group patient", "--group patient names a column of a table: name the table by --table"),
        ("--label x", "--label x names a column"),
        ("--size 28", "FOLDER takes no --size"),
        ("--encoding cp1252", "--encoding cp1252 is of a table, and none was read"),
        ("--table none.csv", "No table none.csv"),
        ("--ratio 0/50/50", "--ratio 0/50/50"),
        ("--split random", "--split random is not known"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(words, message, prepare):
    assert message in prepare(*words.split(), fails=True)


def test_options_of_other_sets_are_refused(prepare):
    assert "BUSI takes no --table, --group" in prepare("--table", "x", "--group", "y", name="BUSI", fails=True)


@pytest.mark.parametrize(
    "paths",
    ["{0}/{1}.png", "{1}@{0}", "C:\\scans\\{0}\\{1}.png", "./{0}/{1}", "old/place/{0}/{1}.PNG"],
    ids=["path", "unique id", "of another machine", "without extension", "other folders and case"],
)
def test_ways_to_name_an_image(paths, prepare, tmp_path):
    """Each image gets the class that the table gives it, however it names it."""
    rows = []
    for path in sorted((tmp_path / "scans").rglob("*.png")):
        if "@" in paths:
            path = path.rename(path.with_name(f"{path.stem}@{path.parent.name}.png"))
        name, stem = path.parent.name, path.stem.split("@")[0]
        rows.append((paths.format(name, stem), f"class {name}"))
    table(tmp_path / "scans/labels.csv", "path,label", rows)
    prepare("--table", "labels.csv")
    found = {item.path: item.classname for item in items(tmp_path / "root")}
    assert len(found) == 24
    for path, classname in found.items():
        real = (tmp_path / "root/images" / path).resolve()
        assert classname == f"class {real.parent.name}"


def test_a_file_missing_below_one_folder_is_not_taken_from_another(prepare, tmp_path):
    (tmp_path / "scans/ill/03.png").unlink()
    rows = [row for row in ROWS if row[0] != "well/03.png"]
    table(tmp_path / "scans/labels.csv", "path,label", [(f"old/{path}", name) for path, name in rows])
    assert "1 images of labels.csv are not in" in prepare("--table", "labels.csv", fails=True)


def test_two_tables_of_one_name(prepare, tmp_path):
    for site, label in (("a", "one"), ("b", "two")):
        table(tmp_path / f"scans/{site}/labels.csv", "path,label", [(p, f"{label} {name}") for p, name in ROWS])
    assert "2 tables labels.csv (a/labels.csv, b/labels.csv)" in prepare("--table", "labels.csv", fails=True)
    prepare("--table", "b/labels.csv")
    assert {item.classname for item in items(tmp_path / "root")} == {"two ill", "two well"}


WORDS = {"ill": "bénin", "well": "恶性"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding, given", [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", ""), ("utf-32", ""),
                                             ("gb18030", "gb18030"), ("utf-16-be", "utf-16-be")])  # fmt: skip
def test_letters_survive_or_the_encoding_is_asked_for(encoding, given, separator, prepare, tmp_path):
    text = "\r\n".join([f"path{separator}label", *(f"{path}{separator}{WORDS[name]}" for path, name in ROWS)])
    (tmp_path / "scans/labels.csv").write_bytes(text.encode(encoding))
    if given:
        said = prepare("--table", "labels.csv", fails=True)
        assert "labels.csv is not UTF-8" in said and "--encoding" in said
        for wrong, why in {"utf8000": "--encoding utf8000 is not known", "ascii": "not ascii"}.items():
            assert why in prepare("--table", "labels.csv", "--encoding", wrong, fails=True)
    prepare("--table", "labels.csv", *(["--encoding", given] if given else []))
    assert {item.classname for item in items(tmp_path / "root")} == set(WORDS.values())


def test_one_letter_written_in_two_ways_is_one_class(prepare, tmp_path):
    """macOS stores é as e and an accent."""
    rows = [(path, "bénin" if i % 2 else "be\u0301nin") for i, (path, name) in enumerate(ROWS) if name == "ill"]
    table(tmp_path / "scans/labels.csv", "path,label", rows + [row for row in ROWS if row[1] == "well"])
    prepare("--table", "labels.csv")
    assert {item.classname for item in items(tmp_path / "root")} == {"bénin", "well"}


@pytest.mark.parametrize(
    "train, test, said",
    [
        ("train", "test", "Split 'official'"),
        ("Training", "Testing", "Split 'official'"),
        ("train_set", "Test images", "Split 'official'"),
        ("traindata", "testdata", "Folders testdata, traindata are not read as a published split"),
        ("set/train1", "set/dev", "error: The split leaves test empty"),
        ("train", "testdata", "error: 8 of 24 images have no place"),
    ],
)
def test_folders_of_a_published_split(train, test, said, prepare, tmp_path):
    for part, of in ((train, range(8)), (test, range(8, 12))):
        for name in ("ill", "well"):
            for i in of:
                target = tmp_path / "new" / part / name / f"{i:02}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / f"scans/{name}/{i:02}.png").rename(target)
    assert said in prepare(source="new", fails=said.startswith("error"))


def test_images_beside_a_published_split_are_not_mixed_with_it(prepare, tmp_path):
    for part in ("train", "test"):
        for name in ("ill", "well"):
            paint(tmp_path / "scans" / part / name / "more.png")
    said = prepare(fails=True)
    assert "24 of 28 images have no place in the published split" in said and "--split grouped" in said
    assert "Split 'grouped'" in prepare("--split", "grouped")


def test_a_patient_in_two_published_splits_is_told(prepare, tmp_path):
    table(tmp_path / "scans/labels.csv", "path,label,patient,split", FULL)
    assert "groups lie in two splits" not in prepare("--table", "labels.csv", "--group", "patient")
    rows = edited(FULL, 0, *FULL[0][:2], FULL[10][2], "train")
    table(tmp_path / "scans/labels.csv", "path,label,patient,split", rows)
    assert "1 groups lie in two splits or more: P5" in prepare("--table", "labels.csv", "--group", "patient")


def test_what_is_left_out_is_counted_by_kind_and_folder(prepare, tmp_path):
    scans = tmp_path / "scans"
    for i in range(12):
        (scans / "slides").mkdir(exist_ok=True)
        (scans / f"slides/{i}.svs").write_bytes(b"")
        (scans / f"ill/{i}.xml").write_bytes(b"")
    paint(scans / "loose.png")
    paint(scans / ".ipynb_checkpoints/ill/0.png")
    os.symlink(tmp_path / "gone.png", scans / "ill/gone.png")
    os.symlink(scans / "ill", scans / "again")
    said = prepare()
    for line in (
        "24 images: 24 .png",
        "Left out: 12 .svs in slides",
        "Left out: 12 .xml in ill",
        "Left out: 1 .png in .",
        "Left out: 1 hidden in .",
        "Left out: 1 link that leads nowhere in ill",
        "Left out: 1 link to a folder that is read under its own name",
        "No image was taken from: slides",
    ):
        assert line in said, (line, said)
    assert {item.classname for item in items(tmp_path / "root")} == {"ill", "well"}


@pytest.mark.parametrize("suffix, kind", [(".GIF", "GIF"), (".jfif", "JPEG"), (".pgm", "PPM"), (".webp", "WEBP")])
def test_kinds_of_images_that_are_taken(suffix, kind, prepare, tmp_path):
    from PIL import Image

    for path in (tmp_path / "scans/ill").iterdir():
        with Image.open(path) as image:
            image.convert("L").save(path.with_suffix(suffix), kind)
        path.unlink()
    assert f"12 {suffix.lower()}" in prepare()
    assert sum(item.classname == "ill" for item in items(tmp_path / "root")) == 12


def test_dicom_files_without_extension_are_taken(prepare, tmp_path):
    from test_dicom import write

    (tmp_path / "scans/dcm").mkdir()
    for i in range(12):
        write(tmp_path / f"scans/dcm/1.2.826.0.{i}", np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8))
    (tmp_path / "scans/dcm/notes").write_text("no image")
    said = prepare()
    assert "12 without extension" in said and "Left out: 1 without extension in dcm" in said
    assert sum(item.classname == "dcm" for item in items(tmp_path / "root")) == 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_never_answers_is_left_alone(prepare, tmp_path):
    os.mkfifo(tmp_path / "scans/ill/fifo.png")
    os.mkfifo(tmp_path / "fifo.zip")
    assert "No download at" in prepare(source="fifo.zip", fails=True)
    assert "Left out: 1 FIFO, socket or device in ill" in prepare()


def test_images_that_cannot_be_read_are_counted(prepare, tmp_path, run):
    (tmp_path / "scans/ill/03.png").write_text("<html>404</html>")
    said = prepare()
    assert "1 of 24 images cannot be read: ill/03.png (it is no image" in said
    for path in (tmp_path / "scans").rglob("*.png"):
        path.write_text("<html>404</html>")
    shutil.rmtree(tmp_path / "root")
    assert "None of the 24 images" in prepare(fails=True)
    assert not (tmp_path / "root").exists(), "nothing is written"


def test_a_second_copy_of_a_tree_is_taken_once(prepare, tmp_path):
    """Kaggle's chest X-rays hold everything twice, one copy inside the other."""
    scans = tmp_path / "scans"
    shutil.copytree(scans, tmp_path / "copy")
    (tmp_path / "copy").rename(scans / "scans")
    said = prepare()
    assert "scans repeats the rest: its 24 images are taken once" in said and len(items(tmp_path / "root")) == 24
    assert all("scans/scans" not in os.readlink(p) for p in (tmp_path / "root/images").rglob("*.png"))


def test_copies_that_are_no_second_tree_are_told(prepare, tmp_path):
    shutil.copy(tmp_path / "scans/ill/00.png", tmp_path / "scans/ill/again.png")
    shutil.copy(tmp_path / "scans/ill/01.png", tmp_path / "scans/well/x.png")
    said = prepare()
    assert "2 images are identical copies of others" in said and "1 identical images are of two classes" in said
    assert len(items(tmp_path / "root")) == 26


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


@pytest.mark.parametrize("where", ["--root", "HOME"])
def test_phantoms_where_nothing_can_be_written(where, tmp_path, monkeypatch):
    from test_read import read

    from cilmp.errors import UserError

    monkeypatch.setenv("HOME", str(tmp_path))
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
