import json
import re

import pytest
import torch
from safetensors.torch import save_file

from cilmp.errors import UserError
from cilmp.llm import Knowledge, load, read, save, store
from cilmp.llm.control import random
from cilmp.llm.folder import imported

NAMES = ["immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "Normal", "covid_19"]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    known = Knowledge(NAMES, [torch.randn(n, 6) for n in (4, 4, 3)], {"model": "m", "answers": {"Normal": ["x"]}})
    return save(tmp_path / "representations" / "busi.safetensors", known)


def test_round_trip_in_any_order_and_spelling(file):
    known = read(file)
    assert known.classnames == NAMES and known.metadata["answers"] == {"Normal": ["x"]}
    found = load(str(file), ["covid 19", "normal", NAMES[0]], "BUSI")
    assert [h.shape for h in found.states] == [(3, 6), (4, 6), (4, 6)]
    assert all(torch.equal(a, b) for a, b in zip(found.states, known.states[::-1], strict=True))
    assert found.metadata["model"] == "m" and "answers" not in found.metadata and json.dumps(found.metadata)
    by_data_set = load("", ["Normal"], "BUSI")
    assert torch.equal(by_data_set.states[0], known.states[1])
    assert by_data_set.metadata["sha256"] == found.metadata["sha256"]
    assert torch.equal(load("representations", ["Normal"], "BUSI").states[0], known.states[1])


def test_large_values_are_kept(tmp_path):
    huge = Knowledge(["a"], [torch.tensor([[1e5, 1.0]])])
    assert read(save(tmp_path / "a.safetensors", huge)).states[0][0, 0] == 1e5


def test_a_missing_class_names_file_and_command(file, tmp_path):
    with pytest.raises(UserError) as error:
        load("", ["Normal", "benign"], "BUSI")
    text = str(error.value)
    assert "class 'benign' in representations/busi.safetensors" in text
    assert "extract --dataset-config-file busi --model" in text
    with pytest.raises(UserError, match=r"neither shipped nor as representations/lungs\.safetensors.*--classes \"a\""):
        load("", ["a"], "LUNGS")
    with pytest.raises(UserError, match="No representations at nowhere"):
        load("nowhere", ["a"], "ODIR")
    for llm in "xy":
        (tmp_path / "representations" / llm).mkdir()
        (tmp_path / "representations" / llm / "adam.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="Several representations of ADAM"):
        load("", ["Normal"], "ADAM")


def test_spellings_that_collide(tmp_path):
    path = save(tmp_path / "x.safetensors", Knowledge(["a b", "A_B"], [torch.zeros(1, 2), torch.ones(1, 2)]))
    assert load(str(path), ["A_B"]).states[0].sum() == 2
    with pytest.raises(UserError, match="may be any of"):
        load(str(path), ["A B"])


def test_damaged_and_foreign_files(file, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged or cut off"):
        load(str(cut), ["Normal"])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, foreign)
    with pytest.raises(UserError, match="not one of class representations"):
        load(str(foreign), ["weight"])
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors here")
    with pytest.raises(UserError, match="damaged or cut off"):
        load(str(text), ["Normal"])
    facts = {"classnames": ["a", "b"], "classes_sha256": store.fingerprint(["a", "c"])}
    save_file({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)}, foreign, metadata={"cilmp": json.dumps(facts)})
    with pytest.raises(UserError, match="not those it was made with"):
        load(str(foreign), ["a"])
    for states, reason in (
        ([torch.zeros(2, 4), torch.zeros(2, 5)], "width 4 and class 'b' 5"),
        ([torch.zeros(2, 4), torch.zeros(4)], "not floating"),
        ([torch.zeros(2, 4), torch.full((2, 4), torch.nan)], "not finite"),
    ):
        with pytest.raises(UserError, match=reason):
            save(tmp_path / "bad.safetensors", Knowledge(["a", "b"], states))


def test_the_authors_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "llm_representations" / "aptos2019"
    folder.mkdir(parents=True)
    states = {"no diabetic retinopathy": torch.randn(5, 4), "mild diabetic retinopathy": torch.randn(5, 4).half()}
    for name, h in states.items():
        torch.save(h, folder / f"{name}.pth")
    names = list(states)
    for source in (folder, folder.parent):  # the set's folder, or the one above it by the data set's name
        found = load(str(source), names, "APTOS")
        assert all(torch.equal(h, states[name]) for h, name in zip(found.states, names, strict=True))
    whole = read(save("all.safetensors", imported(folder, "LLaMA3-8B")))
    assert sorted(whole.classnames) == sorted(names) and whole.metadata["dataset"] == "aptos2019"
    assert torch.equal(whole.states[whole.classnames.index(names[1])], states[names[1]])

    with pytest.raises(UserError, match="neither busi.safetensors nor .pth"):
        load(str(folder.parent), names, "BUSI")
    with pytest.raises(UserError, match="Import one of its folders: aptos2019"):
        imported(folder.parent)
    torch.save({"h": torch.zeros(5, 4)}, folder / "worse.pth")
    with pytest.raises(UserError, match="holds a dict"):
        load(str(folder), ["worse"])
    torch.save(pytest.raises, folder / "code.pth")  # a pickle of anything but tensors is not executed
    with pytest.raises(UserError, match="Cannot read a tensor"):
        load(str(folder), ["code"])


def test_the_random_control_keeps_the_statistics_and_nothing_else(tmp_path):
    torch.manual_seed(0)
    states = torch.randn(400, 2, 3) * torch.tensor([1.0, 5.0, 30.0]) + torch.tensor([0.0, 9.0, -2.0])
    path = save(tmp_path / "k.safetensors", Knowledge([str(i) for i in range(400)], list(states), {"model": "m"}))
    made = random(path, seed=3)
    drawn = torch.stack(made.states)
    assert ((drawn.mean(0) - states.mean(0)) / states.std(0)).abs().max() < 0.2  # 4 standard errors
    torch.testing.assert_close(drawn.std(0), states.std(0), atol=0.05, rtol=0.15)
    assert abs(torch.corrcoef(torch.stack([drawn[:, 0, 2], states[:, 0, 2]]))[0, 1]) < 0.2
    assert torch.equal(drawn, torch.stack(random(path, seed=3).states))
    assert not torch.equal(drawn, torch.stack(random(path, seed=4).states))
    assert re.fullmatch("random, statistics of m", made.metadata["model"])
