"""benchmarks/peers.py: a checkout runs as it is, without a download, a GPU or half precision, beside ours."""

import json

import peers
import pytest

from cilmp.errors import UserError

CLIP = """
_MODELS = {"ViT-B/16": "somewhere"}


def _download(url):
    raise OSError("a download")
"""

TRAINER = """
import time

import torch
from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer


@TRAINER_REGISTRY.register()
class CILMP(TrainerX):
    def build_model(self):
        assert len(self.dm.dataset.classnames) == 2
        options = self.cfg.TRAINER.PROMPTSRC
        assert options.PREC == "fp32" and options.LOW_RANK_DIMENSION == 8
        weights = torch.jit.load(clip._download(clip._MODELS[self.cfg.MODEL.BACKBONE.NAME])).eval().state_dict()
        assert weights["ln_final.weight"].shape == (16,) and "visual.proj" in weights
        assert torch.load("llm_representations/normal.pth").shape == (12, 20)
        self.model = torch.nn.Linear(5, 3, bias=False).half().cuda().to(torch.float16)
        self.before = self.model.weight.detach().clone()
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.register_model("model", self.model, self.optim)

    def forward_backward(self, batch):
        assert self.model.training and batch["img"].shape == (3, 3, 32, 32) and batch["label"].shape == (3,)
        held = torch.ones(2 << 20)  # 8 MiB
        time.sleep(0.1)
        self.model_backward_and_update(self.model(held[:5]).sum())
        assert torch.equal(self.model.weight, self.before)  # no optimiser's step
"""


@pytest.fixture
def checkout(tmp_path):
    for name, text in {"clip/clip.py": CLIP, "trainers/cilmp.py": TRAINER}.items():
        file = tmp_path / "theirs" / "cilmp" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    return tmp_path / "theirs"


def arguments(checkout, *others) -> list[str]:
    line = ["--cilmp", checkout, "--tiny", "--classes", 2, "--batch", 3, "--repeats", 2, "--device", "cpu", *others]
    return [str(word) for word in line]


def test_a_checkout_beside_ours(checkout, tmp_path):
    peers.main(arguments(checkout, "--out", tmp_path / "out"))
    [row] = json.loads(next(tmp_path.glob("out/peers-*-fp32.json")).read_text())["rows"]
    assert (row["trainer"], row["classes"], row["batch"], row["commit"]) == ("CILMP", 2, 3, "")
    assert row["theirs_parameters"] == 15 and row["ours_parameters"] > 15
    assert row["theirs_seconds"] > 0.1 and 8 <= row["theirs_mb"] < 9
    assert row["memory_ratio"] == row["theirs_mb"] / row["ours_mb"]
    assert row["time_ratio_range"][0] <= row["time_ratio"] <= row["time_ratio_range"][1]


@pytest.mark.slow
def test_a_checkout_that_fails(checkout, capfd):
    with (checkout / "cilmp/trainers/cilmp.py").open("a") as file:
        file.write("import a_package_of_theirs")
    with pytest.raises(UserError, match=f"CILMP of {checkout} ended with exit code 1; what it said stands above"):
        peers.main(arguments(checkout))
    assert "No module named 'a_package_of_theirs'" in capfd.readouterr().err


@pytest.mark.parametrize("missing", ["clip/clip.py", "trainers/cilmp.py"])
def test_no_checkout(checkout, missing):
    (checkout / "cilmp" / missing).unlink()
    with pytest.raises(UserError) as error:
        peers.main(arguments(checkout))
    assert str(error.value) == (
        f"--cilmp {checkout} has no cilmp/{missing}: name a checkout of https://github.com/usr922/cilmp."
    )


def test_nothing_to_compare_with():
    with pytest.raises(UserError, match="give a checkout, --coop or --maple or --promptsrc or --cilmp"):
        peers.main([])
