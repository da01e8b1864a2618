"""The split reader: layouts, few-shot draws, halves of the classes, and slips told in one line."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml
from downloads import paint

import cilmp.datasets  # noqa: F401
from cilmp.datasets import fewshot, splits
from cilmp.errors import UserError
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset

OURS = {n for n in DATASET_REGISTRY.registered_names() if DATASET_REGISTRY.get(n).__module__.startswith("cilmp.")}
CONFIGS = Path(__file__).parents[2] / "configs/datasets"
ODIR = DATASET_REGISTRY.get("ODIR").classnames


def make(folder: Path, split_file: str, images: str, names, sizes, seed: int = 0) -> dict:
    """A data set of one-image files; classes do not lie in label order."""
    rng, rows = random.Random(seed), {}
    for part, size in sizes.items():
        rows[part] = [[f"c{k}/{part}_{i}.png", k, name] for k, name in enumerate(names) for i in range(size)]
        rng.shuffle(rows[part])
    first = folder / images / "one.png"
    paint(first)
    for part in rows.values():
        for path, *_ in part:
            target = folder / images / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(first)
    (folder / split_file).write_text(json.dumps(rows))
    return rows


@pytest.fixture
def root(tmp_path):
    make(tmp_path / "odir", "odir.json", "", ODIR, {"train": 20, "val": 6, "test": 3})
    return tmp_path


def read(root, name: str = "ODIR", seed: int = 1, **options):
    cfg = get_cfg_default()
    cfg.set_new_allowed(True)
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.SEED = name, str(root), seed
    for key, value in options.items():
        cfg.DATASET[key] = value
    return build_dataset(cfg)


def paths(items) -> list[str]:
    return [item.impath for item in items]


@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_selects_the_reference_images(root, shots, seed):
    """Dassl's own draw from the global generator, seeded as train.py seeds it: training first, then validation."""
    rows = splits.read(root / "odir/odir.json")
    train, val = (
        [Datum(str(root / "odir" / i.path), i.label, classname=i.classname) for i in rows[s]] for s in ("train", "val")
    )
    theirs = DatasetBase.__new__(DatasetBase)
    random.seed(seed)
    train = theirs.generate_fewshot_dataset(train, num_shots=shots)
    val = theirs.generate_fewshot_dataset(val, num_shots=min(shots, 4))
    random.seed(99)  # whatever ran before
    ours = read(root, seed=seed, NUM_SHOTS=shots)
    assert paths(ours.train_x) == paths(train) and paths(ours.val) == paths(val)
    assert Counter(i.label for i in ours.train_x) == dict.fromkeys(range(8), shots)


def test_halves_are_drawn_from_the_same_shots(root):
    whole, base, new = (read(root, NUM_SHOTS=4, SUBSAMPLE_CLASSES=which) for which in ("all", "base", "new"))
    assert base.classnames == list(ODIR[:4]) and new.classnames == list(ODIR[4:])
    assert sorted(paths(base.train_x) + paths(new.train_x)) == sorted(paths(whole.train_x))
    assert {i.label for i in new.train_x} == {0, 1, 2, 3} and {i.classname for i in new.test} == set(ODIR[4:])
    odd = fewshot.half(list("abcde"), "base")
    assert odd == [0, 1, 2] and fewshot.half(list("abcde"), "new") == [3, 4]


def test_halves_of_ones_own_choice(root):
    chosen = ["cataract", "normal", "hypertension"]
    base, new = (read(root, SUBSAMPLE_CLASSES=which, BASE_CLASSES=chosen) for which in ("base", "new"))
    assert base.classnames == ["normal", "cataract", "hypertension"]
    assert set(base.classnames) | set(new.classnames) == set(ODIR) and new.num_classes == 5


def test_the_classes_that_another_set_shares(tmp_path):
    """Trained on PNEUMONIA2, tested on the two classes of three that it knows."""
    dataset = DATASET_REGISTRY.get("CPN_X_RAY")
    make(tmp_path / "cpn-x-ray", "cpn-x-ray.json", "", dataset.classnames, {"train": 2, "test": 3})
    shared = read(tmp_path, "CPN_X_RAY", SUBSAMPLE_CLASSES="base", BASE_CLASSES=["normal", "pneumonia"])
    assert shared.classnames == ["normal", "pneumonia"] and len(shared.test) == 6


def test_imbalanced_shots_follow_nature(tmp_path):
    rows = make(tmp_path / "odir_simple", "odir2.json", "", ("normal", "cataract"), {"train": 40, "val": 5, "test": 2})
    rows["train"] = [r for r in rows["train"] if r[1] == 0 or int(r[0].split("_")[1][:-4]) < 10]
    (tmp_path / "odir_simple/odir2.json").write_text(json.dumps(rows))
    drawn = read(tmp_path, "ODIR2", NUM_SHOTS=8, FEWSHOT="imbalanced")
    assert len(drawn.train_x) == 16 and drawn.val is None
    assert Counter(item.classname for item in drawn.train_x) == {"normal": 13, "cataract": 3}  # 40 : 10
    others = read(tmp_path, "ODIR2", 2, NUM_SHOTS=8, FEWSHOT="imbalanced")
    assert paths(others.train_x) != paths(drawn.train_x)
    assert drawn.classnames == ["normal", "cataract"]


def test_a_class_that_an_imbalanced_draw_lacks_keeps_its_name(tmp_path, capsys):
    rows = make(tmp_path / "odir_simple", "odir2.json", "", ("normal", "cataract"), {"train": 60, "test": 2})
    rows["train"] = [r for r in rows["train"] if r[1] == 0] + [r for r in rows["train"] if r[1] == 1][:1]
    (tmp_path / "odir_simple/odir2.json").write_text(json.dumps(rows))
    dataset = read(tmp_path, "ODIR2", NUM_SHOTS=1, FEWSHOT="imbalanced")
    assert dataset.classnames == ["normal", "cataract"] and dataset.num_classes == 2
    assert "shows cataract" in capsys.readouterr().out


def test_more_shots_than_images(root, capsys):
    dataset = read(root, NUM_SHOTS=32)
    assert len(dataset.train_x) == 160 and len(dataset.val) == 32
    assert "NUM_SHOTS 32: all there are of" in capsys.readouterr().out


@pytest.mark.parametrize("shots, fewshot, held", [(16, "balanced", 4), (-1, "balanced", 5), (16, "imbalanced", 4)])
def test_held_back_images_are_validation_and_not_trained_on(tmp_path, shots, fewshot, held, capsys):
    make(tmp_path / "odir_simple", "odir2.json", "", ("normal", "cataract"), {"train": 20, "test": 2})
    options = dict(NUM_SHOTS=shots, FEWSHOT=fewshot)
    whole = read(tmp_path, "ODIR2", **options)
    part = read(tmp_path, "ODIR2", **options, HELD_BACK=0.25)
    assert f"{2 * held} of {len(whole.train_x)} training images are held back" in capsys.readouterr().out
    assert sorted(paths(part.train_x) + paths(part.val)) == sorted(paths(whole.train_x))
    assert Counter(item.classname for item in part.val) == {"normal": held, "cataract": held}
    assert paths(read(tmp_path, "ODIR2", **options, HELD_BACK=0.25).val) == paths(part.val)  # a later program's too
    one = read(tmp_path, "ODIR2", NUM_SHOTS=2, HELD_BACK=0.99)
    assert Counter(item.label for item in one.train_x) == {0: 1, 1: 1}


def test_nothing_is_held_back_in_silence_or_in_vain(root, tmp_path):
    with pytest.raises(UserError, match="odir.json has a list 'val', which is used: leave it out"):
        read(root, NUM_SHOTS=4, HELD_BACK=0.25)
    make(tmp_path / "odir_simple", "odir2.json", "", ("normal", "cataract"), {"train": 4, "test": 2})
    with pytest.raises(UserError, match="HELD_BACK 0.25 of 1 training images a class is none"):
        read(tmp_path, "ODIR2", NUM_SHOTS=1, HELD_BACK=0.25)
    with pytest.raises(UserError, match="needs a SEED"):
        read(tmp_path, "ODIR2", seed=-1, HELD_BACK=0.25)


def test_no_validation_list(tmp_path, capsys):
    make(tmp_path / "odir_simple", "odir2.json", "", ("normal", "cataract"), {"train": 4, "test": 2})
    assert read(tmp_path, "ODIR2", NUM_SHOTS=2).val is None
    assert "no validation set" in capsys.readouterr().out


def test_both_layouts_of_busi(tmp_path):
    """CILMP's and BiomedCoOp's set of one name; a split file chooses where both are there."""
    names = ("benign tumor", "malignant tumor", "normal scan")
    make(tmp_path / "BUSI", "split_BUSI.json", "BUSI", names, {"train": 3, "val": 2, "test": 2})
    assert read(tmp_path, "BUSI").classnames == list(names)
    make(tmp_path / "busi", "busi.json", "", ("normal", "malignant", "benign"), {"train": 3, "test": 2})
    assert read(tmp_path, "BUSI").classnames == ["normal", "malignant", "benign"]


def test_split_file_of_ones_own(root, tmp_path):
    rows = json.loads((root / "odir/odir.json").read_text())
    rows["train"] = rows["train"][:100]
    (root / "odir/mine.json").write_text(json.dumps(rows))
    assert len(read(root, SPLIT_FILE="mine.json").train_x) == 100
    (tmp_path / "elsewhere.json").write_text(json.dumps(rows))
    assert len(read(root, SPLIT_FILE=str(tmp_path / "elsewhere.json")).train_x) == 100
    with pytest.raises(UserError, match="No split file at .*none.json"):
        read(root, SPLIT_FILE="none.json")


def edit(root, change) -> None:
    path = root / "odir/odir.json"
    rows = json.loads(path.read_text())
    path.write_text(change(rows) or json.dumps(rows))


def drop_images(root):
    for i in range(4):
        (root / f"odir/c1/test_{i % 3}.png").unlink(missing_ok=True)


def cut_image(root):
    path = root / "odir/c2/train_3.png"
    whole = path.read_bytes()
    path.unlink()  # the files are links to one
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "damage, options, message",
    [
        (lambda r: edit(r, lambda rows: "{oops"), {}, "odir.json is not JSON"),
        (lambda r: edit(r, lambda rows: "[1]"), {}, "holds a list, not an object"),
        (lambda r: edit(r, lambda rows: rows.pop("test") and None), {}, "no images under 'test'"),
        (lambda r: edit(r, lambda rows: rows["train"].append(["a.png", "0", "normal"])), {}, "entry 160 is"),
        (lambda r: edit(r, lambda rows: rows["test"].append(["a.png", 1, "normal"])), {}, "calls label 1 'normal'"),
        (lambda r: edit(r, lambda rows: rows["train"].append(["a.png", 9, "x"])), {}, "not 0 to 8"),
        (lambda r: edit(r, lambda rows: rows["train"].append(["a.png", 0, "x"])), {}, "label 0 has two class names"),
        (
            lambda r: edit(r, lambda rows: rows["train"].append(["a.png", 0, " "])),
            {},
            "entry 160 .a.png. has an empty class",
        ),
        (
            lambda r: edit(r, lambda rows: rows["train"].append(["", 0, "normal"])),
            {},
            "entry 160: '' is not a path below",
        ),
        (lambda r: edit(r, lambda rows: rows["test"].append(["a/../../b.png", 0, "normal"])), {}, "'test', entry 24"),
        (lambda r: edit(r, lambda rows: rows["test"].append(["..\\b.png", 0, "normal"])), {}, "not a path below"),
        (lambda r: edit(r, lambda rows: rows["val"].append(["/etc/b.png", 0, "normal"])), {}, "not a path below"),
        (lambda r: edit(r, lambda rows: rows["val"].append(["C:b.png", 0, "normal"])), {}, "not a path below"),
        (lambda r: edit(r, lambda rows: rows["val"].append(["a\0.png", 0, "normal"])), {}, "not a path below"),
        (lambda r: edit(r, lambda rows: "[" * 100000), {}, "odir.json is not JSON"),
        (drop_images, {}, "3 of 232 images of .* are missing below .*: c1/test_"),
        (cut_image, {"NUM_SHOTS": -1}, "1 of 232 images cannot be read: .*c2/train_3.png"),
        (lambda r: None, {"ROOT": "nowhere"}, "No data folder at nowhere: check --root"),
        (lambda r: None, {"ROOT": ""}, "use --root"),
        (lambda r: None, {"NAME": "BUSI"}, "there is no busi/ or BUSI/ there.*prepare BUSI"),
        (lambda r: None, {"SUBSAMPLE_CLASSES": "old"}, "use all, base or new"),
        (lambda r: None, {"FEWSHOT": "some"}, "use balanced or imbalanced"),
        (lambda r: None, {"SUBSAMPLE_CLASSES": "base", "BASE_CLASSES": ["cataracts"]}, "Did you mean cataract"),
        (
            lambda r: None,
            {"SUBSAMPLE_CLASSES": "new", "BASE_CLASSES": list(ODIR[:7])},
            "only 'other diseases .* new half",
        ),
    ],
)
def test_slips_are_one_line(root, damage, options, message):
    damage(root)
    name = options.pop("NAME", "ODIR")
    with pytest.raises(UserError, match=message) as told:
        read(root, name, **options)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["ODIR2", "PNEUMONIA3"])
@pytest.mark.parametrize("which", ["base", "new"])
def test_one_class_in_a_half(name, which, tmp_path):
    dataset = DATASET_REGISTRY.get(name)
    make(tmp_path / dataset.dataset_dir, dataset.split, "", dataset.classnames, {"train": 2, "test": 1})
    with pytest.raises(UserError, match=f"{name} has .* in its (base|new) half"):
        read(tmp_path, name, SUBSAMPLE_CLASSES=which)


@pytest.mark.parametrize("options", [{}, {"NUM_SHOTS": 2}, {"SUBSAMPLE_CLASSES": "base"}])
def test_one_class_in_all(options, tmp_path):
    make(tmp_path, "split.json", "images", ("only",), {"train": 4, "test": 2})
    with pytest.raises(UserError, match="FOLDER has one class, 'only', where every guess is right"):
        read(tmp_path, "FOLDER", **options)


def test_a_split_file_with_a_mark_at_its_start(root):
    """Some editors write one before UTF-8."""
    path = root / "odir/odir.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(root).num_classes == 8


def test_noted_groups_of_another_form_are_one_line(root):
    (root / "odir/odir.groups.csv").write_text("image;patient\na;b\n")
    with pytest.raises(UserError, match="odir.groups.csv is not a table of path and group"):
        splits.read_groups(root / "odir/odir.json")


def test_every_config_names_a_data_set_and_every_data_set_has_one():
    named = {yaml.safe_load(path.read_text())["DATASET"]["NAME"] for path in CONFIGS.glob("*.yaml")}
    assert named == OURS


@pytest.mark.parametrize("name", sorted(OURS))
def test_declarations_agree_with_their_cards(name):
    dataset = DATASET_REGISTRY.get(name)
    card, names = dataset.card, set(dataset.classnames)
    assert card.source and card.licence
    assert name == "FOLDER" or (card.modality and card.organ and card.citation)  # a user's own images: not known
    assert len(names) == len(dataset.classnames)
    assert not card.images or set(card.images) == names
    if isinstance(dataset.reference, dict):
        assert set(dataset.reference) == names
        whole = {n: sum(row) for n, row in dataset.reference.items()}
        assert dataset.reference_pool or whole == card.images
    elif dataset.reference and card.images:
        assert sum(dataset.reference) == card.total
    if name not in ("PNEUMONIA2", "PNEUMONIA3") and card.official and card.images:
        assert sum(card.official) == card.total
