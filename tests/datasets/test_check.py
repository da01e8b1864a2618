"""`check` finds what was planted, and nothing in a clean set; on real images it finds what is known of them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from downloads import DOWNLOADS, paint
from PIL import Image

from cilmp.datasets import splits
from cilmp.datasets.phantoms import BLURRED
from cilmp.datasets.prepare.check import check, failed
from cilmp.datasets.prepare.fingerprints import NEAR, fingerprint, fingerprints, near_pairs
from cilmp.datasets.prepare.program import prepare
from cilmp.datasets.scans import scan
from dassl.data.datasets import DATASET_REGISTRY

KNEE = DATASET_REGISTRY.get("KneeXray")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "download").mkdir()
    DOWNLOADS["KneeXray"](tmp_path / "download")
    prepare(KNEE, str(tmp_path / "download"), str(tmp_path / "data"), copy=True)
    return tmp_path / "data"


@pytest.fixture
def plant(root):
    """Adds an image to the test list: made by `make(a training image's path, the new path)`."""

    def add(make, name: str = "severe_osteoarthritis/1234567L.png", label: int = 4) -> dict:
        path, images = root / "KneeXray/split_KneeXray.json", root / "KneeXray/KneeXray"
        split = splits.read(path)
        source = next(item for item in split["train"] if item.label == label)
        make(images / source.path, images / name)
        split["test"].append(splits.Item(name, source.label, source.classname))
        splits.write(path, split)
        return check(KNEE, str(root))

    return add


def test_clean_set_passes(root, run):
    report = check(KNEE, str(root))
    assert not failed(report) and report["images_with_group"] == 60
    assert run("check", "KneeXray", "--root", str(root)).strip().endswith("clean")


def test_copied_image_is_found(plant):
    found = plant(shutil.copy)["across_splits"]
    assert len(found["identical pixels"]) == 1 and not found["similar image"]
    assert any("1234567L.png" in member for member in found["identical pixels"][0])


@pytest.mark.parametrize("side, quality", [(48, 60), (36, 90), (112, 75)])
def test_reencoded_and_resized_image_is_found(plant, side, quality, run, root):
    def again(source, target):
        scan("cyst", "ultrasound", BLURRED, np.random.default_rng(1))[0].save(source)  # smooth, as real ones are
        with Image.open(source) as image:
            image.resize((side, side)).save(target, "JPEG", quality=quality)

    found = plant(again)["across_splits"]
    assert len(found["similar image"]) == 1 and not found["identical pixels"]
    as_json = json.loads(run_failing(run, "check", "KneeXray", "--root", str(root), "--json"))
    assert as_json["across_splits"] == found


def run_failing(run, *words) -> str:
    """`check` that ends in exit code 1 prints its report, not an error."""
    import contextlib
    import io

    from cilmp.datasets import __main__ as program

    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr("sys.argv", ["cilmp.datasets", *words])
        assert program.main() == 1
    return out.getvalue()


def test_patient_in_two_splits_is_found(plant):
    found = plant(lambda _, target: paint(target), "severe_osteoarthritis/x_9004000R.png")["across_splits"]
    assert not found["identical pixels"] and not found["similar image"]
    assert len(found["same group"]) == 1 and len(found["same group"][0]) == 3  # both knees in train and the new one


def test_same_file_twice_is_found(plant, root):
    split = splits.read(root / "KneeXray/split_KneeXray.json")
    found = plant(lambda *_: None, name=next(i.path for i in split["train"] if i.label == 4))["across_splits"]
    assert len(found["same file"]) == 1


def test_damage_and_order_are_told(plant, root):
    report = plant(lambda _, target: target.write_bytes(b"\x89PNG\r\n\x1a\nnothing"))
    assert failed(report) and "1234567L.png" in report["unreadable"][0]
    (root / "KneeXray/KneeXray/severe_osteoarthritis/1234567L.png").unlink()
    assert failed(check(KNEE, str(root))) and check(KNEE, str(root))["missing"]
    path = root / "KneeXray/split_KneeXray.json"
    swap = {0: 1, 1: 0}
    split = {n: [i._replace(label=swap.get(i.label, i.label)) for i in items] for n, items in splits.read(path).items()}
    splits.write(path, split)
    assert any("in another order" in note for note in check(KNEE, str(root))["notes"])


def test_identical_images_of_two_classes_are_told(root):
    images = root / "KneeXray/KneeXray"
    split = splits.read(root / "KneeXray/split_KneeXray.json")
    first, last = split["train"][0], split["train"][-1]
    shutil.copy(images / first.path, images / last.path)
    assert check(KNEE, str(root))["two_labels"] == [[first.path, last.path]]


@pytest.mark.parametrize("numpy", [1, 2])
def test_pairs_are_those_of_a_plain_loop(tmp_path, numpy, monkeypatch):
    if numpy == 1:
        monkeypatch.delattr("numpy.bitwise_count", raising=False)
    for i in range(30):
        paint(tmp_path / f"{i}.png", seed=i // 2, side=32 + 8 * (i % 2))
    prints = [fingerprint(str(tmp_path / f"{i}.png")) for i in range(30)]
    bits = [int.from_bytes(p.perceptual, "big") for p in prints]
    plain = {(i, j, d) for i in range(30) for j in range(i) if (d := bin(bits[i] ^ bits[j]).count("1")) <= NEAR}
    assert {(j, i, d) for i, j, d in near_pairs(prints, block=7)} == plain and len(plain) == 15


def test_contact_sheet(root, run, tmp_path):
    run("show", "KneeXray", "--root", str(root), "--output", str(tmp_path / "sheet.png"), "--each", "2")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 800 and sheet.height > 500 and len(sheet.getcolors(1 << 24)) > 1000


REAL = Path(os.environ.get("CILMP_REAL_DATA", "no real data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="CILMP_REAL_DATA names no folder")


@real
def test_real_brain_scans_have_copies_across_splits():
    """docs/data.md; every found pair was made by the publishers of the images, not by us."""
    found = check(DATASET_REGISTRY.get("BTMRI"), str(REAL))["across_splits"]
    assert len(found["identical pixels"]) == 30 and not found["same file"]


@real
def test_real_chest_xrays_have_one_near_copy():
    found = check(DATASET_REGISTRY.get("CPN_X_RAY"), str(REAL))["across_splits"]
    assert not found["identical pixels"]
    assert [pair[:2] for pair in found["similar image"]] == [["train covid/train_044.jpg", "test covid/test_023.jpg"]]


@real
def test_real_copies_are_seen_as_such(tmp_path):
    """Every third chest X-ray at half the size and JPEG quality 75: its copy is nearer than NEAR, no other image is."""
    originals = sorted(map(str, REAL.glob("cpn-x-ray/normal/*.jpg")))[::3]
    copies = []
    for i, path in enumerate(originals):
        with Image.open(path) as image:
            image.resize((112, 112)).save(tmp_path / f"{i}.jpg", quality=75)
        copies.append(str(tmp_path / f"{i}.jpg"))
    n = len(originals)
    assert {(i, j) for i, j, _ in near_pairs(fingerprints(originals + copies))} == {(i, i + n) for i in range(n)}


@real
def test_real_pneumonia_is_prepared(tmp_path):
    dataset = DATASET_REGISTRY.get("PNEUMONIA2")
    split = splits.read(prepare(dataset, str(REAL / "medmnist"), str(tmp_path)))
    assert [len(split[name]) for name in splits.NAMES] == [3882, 524, 624]
