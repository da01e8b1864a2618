"""What a download loses on its way in: nothing, or it is refused in one line that names it, or it is told."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from downloads import paint, table

from cilmp.datasets import splits

ROWS = [(f"{name}/{i:02}.png", name) for name in ("ill", "well") for i in range(12)]  # a table of two_classes


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
