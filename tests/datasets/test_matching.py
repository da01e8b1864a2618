"""The images of one set under the classes of another: by the declared map, by the user's, and never in silence."""

import json
from collections import Counter

import pytest
from test_read import make, read

from cilmp.datasets import matching
from cilmp.errors import UserError
from dassl.data.datasets import DATASET_REGISTRY

PAIRS = [
    (name, source)
    for name in sorted(DATASET_REGISTRY.registered_names())
    for source in getattr(DATASET_REGISTRY.get(name), "matches", {})
]
TUMOURS = ("benign tumor", "malignant tumor")


def place(root, name: str, layout: int = 0, sizes=None) -> None:
    """A set as its declaration lays it out."""
    there = DATASET_REGISTRY.get(name).layouts()[layout]
    folder = root / there.dataset_dir
    make(folder, there.split, there.images, there.classnames, sizes or {"train": 3, "val": 2, "test": 2})


@pytest.mark.parametrize("layout, names", [(0, ("normal", "malignant", "benign")), (1, (*TUMOURS, "normal scan"))])
def test_a_target_is_read_in_the_classes_of_its_source(tmp_path, capsys, layout, names):
    """BUSI, in both of its layouts: the label is the source's, whose third class has no image here."""
    place(tmp_path, "BUSI", layout)
    place(tmp_path, "BUSBRA")
    dataset = read(tmp_path, "BUSBRA", CLASSES_OF="BUSI")
    assert dataset.classnames == list(names) and dataset.num_classes == 3
    own = {"c0": "benign", "c1": "malignant"}  # the folder of each class of BUSBRA, and how its name begins
    for item in dataset.test + dataset.train_x:
        assert item.classname == names[item.label] and item.classname.startswith(own[item.impath.split("/")[-2]])
    assert Counter(names[item.label].split()[0] for item in dataset.test) == {"benign": 2, "malignant": 2}
    said = capsys.readouterr().out
    assert "BUSBRA in the classes of BUSI: 2 of 2 matched" in said and "left out: none" in said
    assert f"of BUSI and not here: {'normal' if layout == 0 else 'normal scan'}" in said


def test_what_has_no_counterpart_is_left_out_and_said(tmp_path, capsys):
    place(tmp_path, "DERMAMNIST")
    place(tmp_path, "Derm7pt")
    dataset = read(tmp_path, "Derm7pt", CLASSES_OF="DERMAMNIST")
    found = Counter(item.classname for item in dataset.test)
    assert found == dict.fromkeys(
        ("basal cell carcinoma", "benign keratosis-like lesions", "melanoma", "melanocytic nevi"), 2
    )
    said = capsys.readouterr().out
    assert "4 of 5 matched" in said and "left out: miscellaneous (7 images)" in said and "nevus is melanocytic" in said
    assert "not here: actinic keratoses and intraepithelial carcinoma, dermatofibroma, vascular lesions" in said


def test_two_classes_may_be_one_of_the_source(tmp_path):
    place(tmp_path, "CPN_X_RAY")
    place(tmp_path, "PNEUMONIA3")
    dataset = read(tmp_path, "PNEUMONIA3", CLASSES_OF="CPN_X_RAY")
    assert Counter(item.classname for item in dataset.test) == {"normal": 2, "pneumonia": 4}


@pytest.mark.parametrize("name, source", PAIRS)
def test_declared_maps_speak_of_classes_that_exist(name, source, tmp_path):
    target, origin = DATASET_REGISTRY.get(name), DATASET_REGISTRY.get(source)
    here, there = matching.all_names(target, ()), matching.all_names(origin, ())
    matching.check(target.matches[source], (name, here), (source, there))
    place(tmp_path, name)
    place(tmp_path, source)
    assert read(tmp_path, name, CLASSES_OF=source).classnames == list(origin.classnames)


@pytest.mark.parametrize(
    "target, source",
    [
        ("BRISC", "BTMRI"),
        ("BTMRI_P", "BTMRI"),
        ("BTMRI_S", "BTMRI"),
        ("BUID", "UDIAT"),
        ("RETINAMNIST", "APTOS"),
        ("PNEUMONIA2", "CPN_X_RAY"),
    ],
)
def test_classes_of_one_name_need_no_map(target, source, tmp_path):
    place(tmp_path, target)
    place(tmp_path, source)
    assert len(read(tmp_path, target, CLASSES_OF=source).test) == 2 * len(DATASET_REGISTRY.get(target).classnames)


def test_a_map_of_ones_own(tmp_path):
    """Of images in a folder; it takes the place of the declared one, and classes of one name need no entry."""
    place(tmp_path, "BUSI")
    make(tmp_path, "split.json", "images", ("gutartig", "normal", "unklar"), {"train": 3, "test": 2})
    dataset = read(tmp_path, "FOLDER", CLASSES_OF="BUSI", CLASS_MAP=["gutartig = benign"])
    assert Counter(item.classname for item in dataset.test) == {"benign": 2, "normal": 2}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"CLASSES_OF": "BUSSI"}, "DATASET.CLASSES_OF is 'BUSSI', which is no data set. Did you mean BUSI"),
        ({"CLASSES_OF": "BTMRI"}, "BTMRI is not below .*: there is no BTMRI/ there"),
        ({"CLASSES_OF": "ODIR"}, "BUSBRA .benign tumor, malignant tumor. and ODIR .* share fewer than two classes"),
        ({"CLASS_MAP": ["benign tumour = benign"]}, "names 'benign tumour', which is no class of BUSBRA. Did you mean"),
        ({"CLASS_MAP": ["benign tumor = bening"]}, "names 'bening', which is no class of BUSI. Did you mean benign"),
        ({"CLASS_MAP": ["benign tumor"]}, "DATASET.CLASS_MAP has 'benign tumor': each is 'class here = class there'"),
        ({"CLASS_MAP": ["a = b", "a = c"]}, "has 'a = c': each is"),
        ({"CLASS_MAP": ["benign tumor = benign"]}, "share fewer than two classes: say which are the same"),
    ],
)
def test_slips_are_one_line(tmp_path, options, message):
    for name in ("BUSI", "BUSBRA", "ODIR"):
        place(tmp_path, name)
    with pytest.raises(UserError, match=message) as told:
        read(tmp_path, "BUSBRA", **{"CLASSES_OF": "BUSI"} | options)
    assert "\n" not in str(told.value)


def test_a_declared_map_of_classes_that_are_nowhere_is_refused(tmp_path, monkeypatch):
    place(tmp_path, "BUSI")
    place(tmp_path, "BUSBRA")
    monkeypatch.setattr(DATASET_REGISTRY.get("BUSBRA"), "matches", {"BUSI": {"benign tumor": "harmless"}})
    with pytest.raises(UserError, match="class map of BUSBRA onto BUSI names 'harmless', which is no class of BUSI"):
        read(tmp_path, "BUSBRA", CLASSES_OF="BUSI")


def test_a_split_file_of_other_names_shares_nothing(tmp_path):
    """A map cannot match what the file does not have: refused, not half matched."""
    place(tmp_path, "BUSI")
    place(tmp_path, "BUSBRA")
    path = tmp_path / "BUSBRA/split_BUSBRA.json"
    path.write_text(json.dumps(json.loads(path.read_text().replace("benign tumor", "lump"))))
    with pytest.raises(UserError, match="lump, malignant tumor.*share fewer than two"):
        read(tmp_path, "BUSBRA", CLASSES_OF="BUSI")
