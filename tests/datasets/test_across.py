"""`check --against` finds training images that another set tests, and lets other common images be."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cilmp.datasets import splits
from cilmp.datasets.phantoms import PHANTOMS, PHANTOMS_B
from cilmp.datasets.prepare import across
from dassl.data.datasets import DATASET_REGISTRY

REAL = Path(os.environ.get("CILMP_REAL_DATA", "no real data"))
pytestmark = pytest.mark.slow  # every image of four sets is read


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    for dataset in (PHANTOMS, PHANTOMS_B):
        dataset.located(str(root))
        path = root / dataset.dataset_dir / dataset.split  # 3 images of each class and part: quicker
        few = {
            part: [i for k in range(8) for i in [item for item in items if item.label == k][:3]]
            for part, items in splits.read(path).items()
        }
        splits.write(path, few)
    return root


@pytest.fixture
def root(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "data")


def copy(root: Path, source: str, target: str, how=shutil.copy) -> None:
    how(root / "phantoms" / source, root / "phantoms_b" / target)


def again(source: Path, target: Path) -> None:
    """Re-encoded at another size, which a hash of the pixels does not survive."""
    with Image.open(source) as image:
        image.resize((48, 48)).save(target)


def found(root: Path) -> dict:
    return across.check(PHANTOMS, str(root), "", [PHANTOMS_B])["against"]["PHANTOMS_B"]


def test_two_scanners_share_no_image(root, run):
    assert run("check", "PHANTOMS", "--root", str(root), "--against", "PHANTOMS_B").strip().endswith("clean")
    assert found(root) == {
        "leaks": {"identical pixels": [], "similar image": []},
        "leaked": 0,
        "tests": 24,
        "alike": 0,
        "not compared": [],
    }


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("how, kind", [(shutil.copy, "identical pixels"), (again, "similar image")])
def test_a_taught_image_in_a_test_is_found(root, part, how, kind):
    copy(root, f"cyst/{part}_001.png", "cyst/test_002.png", how)
    report = found(root)
    [pair] = report["leaks"].pop(kind)
    assert pair[:2] == [f"{part} cyst/{part}_001.png", "test cyst/test_002.png"] and report["leaked"] == 1
    assert list(report["leaks"].values()) == [[]]


@pytest.mark.parametrize(
    "source, target", [("test_001", "test_002"), ("train_001", "train_001"), ("test_001", "val_000")]
)
def test_what_was_not_taught_or_is_not_tested_is_no_leak(root, source, target):
    copy(root, f"cyst/{source}.png", f"cyst/{target}.png")
    report = found(root)
    assert report["leaked"] == 0 and report["alike"] == 1
    assert not across.failed({"against": {"PHANTOMS_B": report}})


def test_a_leak_and_what_cannot_be_compared_end_in_exit_code_1(root, monkeypatch, capsys):
    from cilmp.datasets import __main__ as program

    words = ["check", "PHANTOMS", "--root", str(root), "--against", "PHANTOMS_B"]
    copy(root, "cyst/train_000.png", "mass.png")
    (root / "mass.png").write_bytes(b"")
    (root / "phantoms_b/cyst/test_000.png").write_bytes(b"nothing")
    monkeypatch.setattr("sys.argv", ["cilmp.datasets", *words])
    assert program.main() == 1
    said = capsys.readouterr().out
    assert "not compared: 1" in said and "cyst/test_000.png" in said and said.strip().endswith("see above")
    copy(root, "cyst/train_000.png", "cyst/test_000.png")
    assert program.main() == 1
    assert "PHANTOMS_B: 1 of 24 test images are training or validation images of PHANTOMS" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["cilmp.datasets", *words, "--json"])
    assert program.main() == 1
    assert json.loads(capsys.readouterr().out)["against"]["PHANTOMS_B"]["leaked"] == 1


@pytest.mark.parametrize("other, message", [("PHANTOMS_C", "Did you mean PHANTOMS"), ("PHANTOMS", "is the set itself"),
                                            ("BUSI", "BUSI is not below")])  # fmt: skip
def test_slips_are_one_line(root, run, other, message):
    assert message in run("check", "PHANTOMS", "--root", str(root), "--against", other, fails=True)


@pytest.mark.skipif(not REAL.is_dir(), reason="CILMP_REAL_DATA names no folder")
def test_real_scans_under_another_name(tmp_path):
    """BTMRI's test as the test of BTMRI-S: found are the images that the check within BTMRI finds, by another way."""
    from cilmp.datasets.prepare.check import check

    (tmp_path / "BTMRI-S").mkdir()
    (tmp_path / "BTMRI").symlink_to(REAL / "BTMRI")
    (tmp_path / "BTMRI-S/BTMRI-S").symlink_to(REAL / "BTMRI/BTMRI")
    shutil.copy(REAL / "BTMRI/split_BTMRI.json", tmp_path / "BTMRI-S/split_BTMRI-S.json")
    btmri, other = DATASET_REGISTRY.get("BTMRI"), DATASET_REGISTRY.get("BTMRI_S")
    within = check(btmri, str(tmp_path))["across_splits"]
    pairs = [pair for kind in ("identical pixels", "similar image") for pair in within[kind]]
    taught = {
        m for pair in pairs for m in pair if m.startswith("test ") and any(not o.startswith("test ") for o in pair[:2])
    }
    report = across.check(btmri, str(tmp_path), "", [other])["against"]["BTMRI_S"]
    tested = {pair[1] for kind in report["leaks"].values() for pair in kind}
    assert tested >= taught and report["leaked"] == len(tested) == 40  # docs/data.md
