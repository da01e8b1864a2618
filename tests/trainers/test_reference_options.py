"""A reference's yaml and command line drive our trainers: its blocks, its booleans, its whole numbers."""

from argparse import Namespace
from itertools import chain

import pytest

import cilmp.datasets
import cilmp.trainers  # noqa: F401  both register
from cilmp.errors import UserError
from cilmp.trainers.engine.config import build_cfg

ABSENT = "config_file dataset_config_file root output_dir resume source_domains target_domains transforms backbone head"


def options(trainer: str, yaml: str, pairs: dict, tmp_path) -> dict:
    path = tmp_path / "reference.yaml"
    path.write_text(yaml)
    args = Namespace(**dict.fromkeys(ABSENT.split(), ""), trainer=trainer, seed=1)
    args.config_file, args.dataset_config_file = str(path), "phantoms"
    args.opts = [str(item) for item in chain.from_iterable(pairs.items())]
    return dict(build_cfg(args).TRAINER[trainer.upper()])


@pytest.mark.parametrize(
    "trainer, yaml, pairs, expected",
    [
        ("KgCoOp", "TRAINER: {COOP: {CTX_INIT: True, ALPHA: 1.0}}", {"TRAINER.COOP.W": 2},
         dict(CTX_INIT="a photo of a", W=2.0)),
        ("KgCoOp", "TRAINER: {KGCOOP: {W: 4, N_CTX: 6, CTX_INIT: ''}}", {}, dict(CTX_INIT="", W=4.0, N_CTX=6)),
        ("ProGrad", "LOSS: {NAME: prograd, T: 2}",
         {"TRAINER.COOP.CTX_INIT": False, "LOSS.LAMBDA": "0.8", "LOSS.GM": False},
         dict(T=2.0, LAMBDA=0.8, CTX_INIT="")),
        ("TCP", "TRAINER: {COOP: {N_CTX: 4}}", {"TRAINER.COOP.W": "1.0"}, dict(KG_WEIGHT=8.0, N_CTX=4)),
        ("PromptSRC", "TRAINER: {PROMPTSRC: {TEXT_LOSS_WEIGHT: 25, GPA_MEAN: 6}}", {},
         dict(TEXT_LOSS_WEIGHT=25.0, GPA_MEAN=6)),
        ("CILMP", "TRAINER: {PROMPTSRC: {N_CTX_TEXT: 3, TEXT_LOSS_WEIGHT: 25}}", {"TRAINER.PROMPTSRC.GPA_STD": 9},
         dict(N_CTX_TEXT=3, GPA_STD=9)),
    ],
)  # fmt: skip
def test_it_is_read_in_our_words(trainer, yaml, pairs, expected, tmp_path):
    read = options(trainer, yaml, pairs, tmp_path)
    assert {key: read[key] for key in expected} == expected


@pytest.mark.parametrize(
    "trainer, key, value, said",
    [
        ("KgCoOp", "TRAINER.COOP.N_CTXX", 4, "TRAINER.KGCOOP.N_CTXX does not exist"),
        ("KgCoOp", "TRAINER.KGCOOP.TEMPLATE", "a photo", "a sentence with {}"),
        ("BiomedCoOp", "TRAINER.BIOMEDCOOP.TAU", "0.5", "1 or more"),
        ("PromptSRC", "TRAINER.PROMPTSRC.TEMPLATES", "('a photo',)", "sentences with {}"),
    ],
)
def test_slips_are_one_line(trainer, key, value, said, tmp_path):
    with pytest.raises(UserError, match=said):
        options(trainer, "", {key: value}, tmp_path)


@pytest.mark.parametrize("pairs, w", [({}, 2.0), ({"TRAINER.KGCOOP.W": 3}, 3.0), ({"DATASET.NAME": "KVASIR"}, 6.0)])
def test_what_was_published_for_one_data_set_is_used_there_alone(pairs, w, tmp_path):
    """A value of the command line stands above it, the file's own below."""
    told = "TRAINER: {KGCOOP: {W: 5}}\n"
    told += "DATASETS: {PHANTOMS: {TRAINER: {KGCOOP: {W: 2}}}, KVASIR: {TRAINER: {KGCOOP: {W: 6}}}}"
    assert options("KgCoOp", told, pairs, tmp_path)["W"] == w
    assert options("KgCoOp", told, {"DATASET.NAME": "BUSI"}, tmp_path)["W"] == 5.0
    assert options("KgCoOp", told, {"DATASET.NAME": "Kvasir"}, tmp_path)["W"] == 5.0  # another set


def test_a_slip_among_data_sets_is_one_line(tmp_path):
    with pytest.raises(UserError, match="DATASETS names an unknown data set 'BTMIR'.*BTMRI"):
        options("KgCoOp", "DATASETS: {BTMIR: {TRAINER: {KGCOOP: {W: 2}}}}", {}, tmp_path)
    for held in ("3", "[PHANTOMS]", "{PHANTOMS: 3}", "{PHANTOMS: }", "{PHANTOMS: {DATASET: {NAME: BUSI}}}"):
        with pytest.raises(UserError, match="DATASETS"):
            options("KgCoOp", f"DATASETS: {held}", {}, tmp_path)
    with pytest.raises(UserError, match="DATASET.CLASS_MAP says which"):
        options("KgCoOp", "DATASET: {CLASS_MAP: ['a = b']}", {}, tmp_path)
    with pytest.raises(UserError, match="TRAINER.KGCOOP.WW does not exist"):
        options("KgCoOp", "DATASETS: {PHANTOMS: {TRAINER: {KGCOOP: {WW: 2}}}}", {}, tmp_path)
