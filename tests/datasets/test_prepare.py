"""Every data set: its download in miniature, prepared, checked and read."""

import hashlib
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from downloads import DOWNLOADS, N, paint, table

import cilmp.datasets  # noqa: F401
from cilmp.datasets import splits
from cilmp.datasets.prepare import divide
from cilmp.datasets.prepare.check import check, failed
from cilmp.datasets.prepare.program import prepare
from cilmp.datasets.prepare.records import Record
from cilmp.datasets.prepare.tree import Tree
from cilmp.errors import UserError
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset

pytestmark = pytest.mark.slow  # every recipe, to training

OURS = {n for n in DATASET_REGISTRY.registered_names() if DATASET_REGISTRY.get(n).__module__.startswith("cilmp.")}
SETS = sorted(OURS - {"FOLDER", "PHANTOMS", "PHANTOMS_B"})
PUBLISHED = (
    "BLOODMNIST BTMRI CHAOYANG Derm7pt DERMAMNIST DermaMNIST FETAL_US ISIC KneeXray OCTMNIST PNEUMONIA2 PNEUMONIA3 "
    "BREASTMNIST BRISC BTMRI_P ORGANAMNIST ORGANCMNIST ORGANSMNIST PATHMNIST RETINAMNIST TISSUEMNIST"
).split()


def read(name: str, root: Path):
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT = name, str(root)
    return build_dataset(cfg)


def state(folder: Path) -> dict:
    return {p: hashlib.md5(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", SETS)
def test_from_download_to_training(name, tmp_path):
    source, root, dataset = tmp_path / "download", tmp_path / "data", DATASET_REGISTRY.get(name)
    source.mkdir()
    expected = DOWNLOADS[name](source)
    before = state(source)
    assert tuple(sorted(expected)) == tuple(sorted(dataset.classnames))

    path = prepare(dataset, str(source), str(root))
    assert state(source) == before, "the source was altered"
    assert path == root / dataset.dataset_dir / dataset.split
    split = splits.read(path)
    assert Counter(item.classname for items in split.values() for item in items) == expected
    assert list(splits.classnames(split, path)) == list(dataset.classnames), "label order"

    loaded = read(name, root)
    assert loaded.classnames == list(dataset.classnames)
    assert len(loaded.train_x) == len(split["train"]) and len(loaded.test) == len(split["test"])

    report = check(dataset, str(root))
    assert not failed(report), report
    assert not report["two_labels"]
    assert (name in PUBLISHED) == all(r.split for r in dataset.records(Tree(source)))


@pytest.mark.parametrize("name, groups", [("FETAL_US", N), ("ODIR", 7 * N), ("ISIC", 7 * 4), ("PNEUMONIA3", 3 * N)])
def test_grouped_keeps_patients_together(name, groups, tmp_path):
    """In the published Fetal-US split nobody straddles either; here all is divided anew, and stratified."""
    source, dataset = tmp_path / "download", DATASET_REGISTRY.get(name)
    source.mkdir()
    expected = DOWNLOADS[name](source)
    path = prepare(dataset, str(source), str(tmp_path / "data"), "grouped", ratio=(50, 20, 30))
    noted = splits.read_groups(path)
    known = {record.group for record in dataset.records(Tree(source))} - {""} or set(noted.values())
    assert len(known) == groups
    report = check(dataset, str(tmp_path / "data"))
    assert report["images_with_group"] == sum(expected.values()) and not failed(report)
    for row in report["counts"].values():
        assert row["train"] >= row["test"] > 0


def test_identical_images_of_two_patients_join_them(tmp_path):
    source, dataset = tmp_path / "download", DATASET_REGISTRY.get("FETAL_US")
    source.mkdir()
    DOWNLOADS["FETAL_US"](source)
    for i in range(0, N, 2):
        first = source / f"Images/Patient{i:05}_Plane0_0_of_6.png"
        shutil.copy(first, source / f"Images/Patient{i + 1:05}_Plane0_0_of_6.png")
    with pytest.raises(UserError, match="10 groups"):  # twelve patients are six groups now
        prepare(dataset, str(source), str(tmp_path / "data"), "grouped")


def test_reference_counts(tmp_path):
    """BiomedCoOp's counts, in proportion where a class has another size; its pool for BTMRI is the training folder."""
    records = [Record(f"{c}{i}.png", c) for c in ("a", "b") for i in range(10)]
    division = divide.reference(records, {"a": (5, 2, 3), "b": (50, 20, 30)}, seed=1)
    assert Counter(zip((r.classname for r in records), division, strict=True)) == Counter(
        {(c, s): n for c in "ab" for s, n in {"train": 5, "val": 2, "test": 3}.items()}
    )
    assert division == divide.reference(records, {"a": (5, 2, 3), "b": (50, 20, 30)}, seed=1)
    assert division != divide.reference(records, {"a": (5, 2, 3), "b": (50, 20, 30)}, seed=2)

    many = [Record(f"{i}", c) for c, n in {"a": 1805, "b": 370, "c": 999, "d": 193, "e": 295}.items() for i in range(n)]
    counts = divide.proportional(many, (2930, 366, 366))
    assert [sum(row[i] for row in counts.values()) for i in range(3)] == [2930, 366, 366]

    DOWNLOADS["BTMRI"](tmp_path)
    dataset = DATASET_REGISTRY.get("BTMRI")
    split = splits.read(prepare(dataset, str(tmp_path), str(tmp_path / "data"), "reference"))
    assert sum(map(len, split.values())) == 4 * 8
    with pytest.raises(UserError, match="no published split"):
        prepare(DATASET_REGISTRY.get("BUSI"), busi(tmp_path / "b"), str(tmp_path / "data"), "official")


def busi(folder: Path) -> str:
    folder.mkdir()
    DOWNLOADS["BUSI"](folder)
    return str(folder)


def test_similar_images_stay_together_where_nobody_is_identified(tmp_path):
    from PIL import Image

    source = Path(busi(tmp_path / "download")) / "Dataset_BUSI_with_GT/benign"
    for i in range(6):  # of each of six images three more copies
        for side in (24, 40, 64):
            with Image.open(source / f"benign ({i}).png") as image:
                image.resize((side, side)).save(source / f"benign ({i}-{side}).png")
    dataset = DATASET_REGISTRY.get("BUSI")
    prepare(dataset, str(tmp_path / "download"), str(tmp_path / "data"), "grouped")
    assert not failed(check(dataset, str(tmp_path / "data")))
    prepare(dataset, str(tmp_path / "download"), str(tmp_path / "data"), "reference")
    assert check(dataset, str(tmp_path / "data"))["across_splits"]["similar image"]


def test_resumes_where_it_was_killed(tmp_path, capsys):
    source, dataset = busi(tmp_path / "download"), DATASET_REGISTRY.get("BUSI")
    path = prepare(dataset, source, str(tmp_path / "data"), copy=True)
    first = path.read_text()
    path.unlink()
    gone = sorted(path.parent.rglob("*.png"))[:5]
    for image in gone:
        image.unlink()
    (gone[0].parent / f".{gone[0].name}.part1").write_bytes(b"half")
    capsys.readouterr()
    assert prepare(dataset, source, str(tmp_path / "data"), copy=True).read_text() == first
    assert "5 images written" in capsys.readouterr().out


def test_npz_sizes_and_pixels(tmp_path):
    """The largest file unless a size is asked for; the exported PNG is the array."""
    from PIL import Image

    DOWNLOADS["OCTMNIST"](tmp_path)
    dataset = DATASET_REGISTRY.get("OCTMNIST")
    path = prepare(dataset, str(tmp_path / "octmnist.npz"), str(tmp_path / "data"))
    with np.load(tmp_path / "octmnist.npz") as arrays:
        for split in ("train", "val", "test"):
            for i, item in enumerate(splits.read(path)[split]):
                pixels = np.asarray(Image.open(path.parent / "OCTMNIST" / item.path))
                assert (
                    np.array_equal(pixels, arrays[f"{split}_images"][i]) and item.label == arrays[f"{split}_labels"][i]
                )
    with pytest.raises(UserError, match="octmnist_64.npz"):
        prepare(dataset, str(tmp_path / "octmnist.npz"), str(tmp_path / "data"), options={"size": 64})


def test_one_download_in_all_its_forms(tmp_path):
    """Packed, unpacked, both side by side, and packed twice give the same members."""
    for i in range(3):
        paint(tmp_path / f"a/set/x/{i}.png")
    for outer, inner in (("a/set.zip", "a/set"), ("b.zip", "a")):
        with zipfile.ZipFile(tmp_path / outer, "w") as archive:
            for path in sorted((tmp_path / inner).rglob("*.*")):
                archive.write(path, path.relative_to((tmp_path / inner).parent))
    plain = [f"set/x/{i}.png" for i in range(3)]
    assert Tree(tmp_path / "a").images == plain, "a zip beside its own folder is not read twice"
    shutil.rmtree(tmp_path / "a/set")
    packed = Tree(tmp_path / "a")
    assert packed.images == [f"set.zip/{name}" for name in plain] and packed.path(packed.images[0]) is None
    twice = Tree(tmp_path / "b.zip")
    assert sorted(twice.images)[-3:] == [f"a/set/x/{i}.png" for i in range(3)]
    assert [name for name in twice.images if "set.zip" in name] == [f"a/set.zip/{name}" for name in plain]
    with twice.open("a/set.zip/set/x/1.png") as file, twice.open("a/set/x/1.png") as same:
        assert file.read() == same.read()


def test_an_array_is_read_backwards_too(tmp_path):
    images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    np.savez_compressed(tmp_path / "x.npz", train_images=images)
    stack = Tree(tmp_path / "x.npz").stack("x.npz", "train_images")
    assert all(np.array_equal(stack[i], images[i]) for i in (3, 1, 1, 4, 0))


def test_the_mirror_of_aptos_has_a_split(tmp_path):
    for part, n in {"train_1": 6, "valid": 2, "test": 2}.items():
        rows = [(f"{part}{g}{i}", g) for g in range(5) for i in range(n)]
        table(tmp_path / f"{part}.csv", "id_code,diagnosis", rows)
        for name, _ in rows:
            paint(tmp_path / f"images/images/{name}.png")
    split = splits.read(prepare(DATASET_REGISTRY.get("APTOS"), str(tmp_path), str(tmp_path / "data")))
    assert [len(split[name]) for name in splits.NAMES] == [30, 10, 10]


def test_own_folder_and_own_table(tmp_path, run):
    """No Python: a folder a class, in place, or a table with patients."""
    folder = DATASET_REGISTRY.get("FOLDER")
    own = tmp_path / "own"
    for name in ("sick_lung", "healthy lung"):
        for i in range(N):
            paint(own / name / f"{i}.png")
    path = prepare(folder, str(own), str(own))
    assert {p.name for p in own.iterdir()} == {"sick_lung", "healthy lung", "split.json", "split.groups.csv"}
    assert splits.classnames(splits.read(path), path) == ["healthy lung", "sick lung"]
    assert len(read("FOLDER", own).train_x) == 16

    rows = [(f"sick_lung/{i}.png", "ill", f"patient {i // 2}") for i in range(N)]
    rows += [(f"healthy lung/{i}.png", "well", f"patient {i // 2 + 100}") for i in range(N)]
    rows += [(f"extra/{i}.png", "well", f"patient {i // 2}") for i in range(N)]
    for i in range(N):
        paint(own / "extra" / f"{i}.png")
    table(own / "labels.csv", "file,finding,patient", rows)
    command = f"prepare FOLDER --source {own} --root {tmp_path / 'b'} --table labels.csv --path file --label finding"
    run(*command.split(), "--group", "patient")
    report = check(folder, str(tmp_path / "b"))
    assert not failed(report) and report["images_with_group"] == 3 * N
    table(own / "labels.csv", "file,finding,patient", [*rows, ("absent.png", "ill", "p")])
    assert "1 images of labels.csv are not in" in run(*command.split(), fails=True)
    assert "no column file" in run(*command.replace("labels.csv", "split.groups.csv").split(), fails=True)


@pytest.mark.parametrize(
    "words, message",
    [
        ("prepare BUSSI --source . --root x", "Did you mean BUSI"),
        ("prepare BUSI --source nowhere --root x", "No download at nowhere"),
        ("prepare ISIC --source . --root x", "No images of ISIC"),
        ("prepare APTOS --source . --root x", "No train.csv"),
        ("prepare BLOODMNIST --source . --root x", "class folder"),
        ("check BUSI --root nowhere", "No data folder at nowhere"),
        ("prepare BUSI --source . --root x --ratio 1:2", "--ratio 1:2"),
    ],
)
def test_slips_are_one_line(words, message, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    assert message in run(*words.split(), fails=True)


def test_list_names_all(run):
    out = run("list")
    assert all(name in out for name in SETS)
    card = run("list", "BUSI")
    assert "104863" in card and "busi/busi.json" in card and "BUSI/split_BUSI.json" in card and "235 duplicated" in card
