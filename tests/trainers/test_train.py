"""train.py as a user runs it: every trainer on the embedded data set, what it leaves behind, every slip in one line."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cilmp import predict, train
from cilmp.errors import exit_on_user_error
from cilmp.restore import restore
from cilmp.results.predictions import Predictions

HOME = Path(__file__).parents[2]
TRAINERS = sorted(p.parent.name for p in (HOME / "configs/trainers").glob("*/tiny.yaml"))
ONE_FAST = [pytest.param(name, marks=() if name == "CoOp" else pytest.mark.slow) for name in TRAINERS]
QUICK = ["VERBOSE", "False", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "4"]
QUICK += ["DATALOADER.TEST.BATCH_SIZE", "400"]


@pytest.fixture
def run(data, monkeypatch, capsys):
    """run(trainer, output, *flags, opts=[...]) -> (exit code, what stderr says)."""

    def call(trainer: str, output: Path, *flags: str, opts=(), root=data, dataset="phantoms") -> tuple[int, str]:
        argv = ["train.py", "--root", str(root), "--seed", "1", "--trainer", trainer, "--output-dir", str(output)]
        argv += ["--dataset-config-file", str(HOME / f"configs/datasets/{dataset}.yaml")]
        if "--config-file" not in flags:
            argv += ["--config-file", str(HOME / f"configs/trainers/{trainer}/tiny.yaml")]
        monkeypatch.setattr(sys, "argv", [*argv, *flags, *QUICK, *map(str, opts)])
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # the run's logger takes its place
        with pytest.raises(SystemExit) as stop:
            exit_on_user_error(train.guarded)
        return stop.value.code or 0, capsys.readouterr().err

    return call


@pytest.mark.parametrize("trainer", ONE_FAST)
def test_trains_tests_and_leaves_a_record(run, trainer, tmp_path):
    code, said = run(trainer, tmp_path, opts=["TEST.SAVE_PREDICTIONS", "True"])
    assert code == 0, said
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["trainer"] == trainer and record["dataset"] == "PHANTOMS" and record["seed"] == 1
    assert record["shots"] == 2 and record["options"]["OPTIM.MAX_EPOCH"] == 2
    assert len(record["per_class"]) == 8 and set(record["metrics"]) >= {"accuracy", "macro_f1", "auroc", "kappa"}
    assert record["seconds"]["total"] > 0 and record["peak_memory_mb"] > 0 and record["versions"]["torch"]
    predictions = np.load(tmp_path / "predictions.npz")
    hits = predictions["logits"].argmax(1) == predictions["label"]
    assert math.isclose(100 * hits.mean(), record["metrics"]["accuracy"])
    assert len(predictions["path"]) == 400 and list(predictions["classnames"]) == list(record["per_class"])
    assert all(Path(path).is_file() for path in predictions["path"])


def test_predictions_name_the_images_that_were_tested(run, tmp_path):
    code, said = run("ZeroshotCLIP", tmp_path, opts=["TEST.SAVE_PREDICTIONS", "True", "TEST.SPLIT", "val"])
    assert code == 0, said
    kept = json.loads((tmp_path / "result.json").read_text())
    paths = np.load(tmp_path / "predictions.npz")["path"]
    assert kept["split"] == "val" and all("val" in Path(path).name for path in paths)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["CoOp", "CoCoOp", "MaPLe", "CILMP", "CLIPAdapter", "CLIPLoRA"])
def test_prompts_of_the_base_classes_serve_the_new_ones(run, trainer, tmp_path):
    assert run(trainer, tmp_path / "base", opts=["DATASET.SUBSAMPLE_CLASSES", "base"])[0] == 0
    flags = ["--eval-only", "--model-dir", str(tmp_path / "base"), "--load-epoch", "2"]
    assert run(trainer, tmp_path / "new", *flags, opts=["DATASET.SUBSAMPLE_CLASSES", "new"])[0] == 0
    assert run(trainer, tmp_path / "again", *flags, opts=["DATASET.SUBSAMPLE_CLASSES", "base"])[0] == 0
    base, new, again = (json.loads((tmp_path / d / "result.json").read_text()) for d in ("base", "new", "again"))
    assert list(new["per_class"]) == ["spiculated mass", "fracture", "consolidation", "cavity"]
    assert again["metrics"] == base["metrics"]  # a checkpoint is the whole of what was learned


def test_rows_of_classes_serve_no_others(run, tmp_path):
    """PHANTOMS' halves have four classes each: the shapes alone would let them pass."""
    flags = ["--eval-only", "--model-dir", str(tmp_path / "base")]
    opts = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.CSC", True]
    assert run("CoOp", tmp_path / "base", opts=[*opts, "DATASET.SUBSAMPLE_CLASSES", "base"])[0] == 0
    code, said = run("CoOp", tmp_path / "new", *flags, opts=[*opts, "DATASET.SUBSAMPLE_CLASSES", "new"])
    assert code == 2 and "is of the classes nodule" in said and not (tmp_path / "new" / "result.json").exists()


def test_a_diverged_run_leaves_one_line_and_no_checkpoint(run, tmp_path):
    code, said = run("CoOp", tmp_path, opts=["OPTIM.LR", 1e30, "OPTIM.WARMUP_EPOCH", 0])
    assert code == 2 and "infinite or NaN" in said and "Traceback" not in said
    assert not (tmp_path / "result.json").exists() and not list(tmp_path.glob("*/model*"))


def test_an_option_taken_by_a_flag_s_list_is_told(run, tmp_path):
    code, said = run("CoOp", tmp_path, "--source-domains", "a")
    assert code == 2 and "--source-domains has taken VERBOSE" in said


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (p for p in folder.glob("*/model.pth.tar-3") if p.parent.name != "average")
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_a_resumed_run_ends_in_the_same_numbers(run, tmp_path):
    opts = ["OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, "TEST.NO_TEST", True]
    assert run("CILMP", tmp_path / "whole", opts=opts)[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for folder in (tmp_path / "cut").iterdir():
        if folder.is_dir() and (folder / "checkpoint").exists():
            (folder / "model.pth.tar-3").unlink()
            (folder / "checkpoint").write_text("model.pth.tar-2\n")
    assert run("CILMP", tmp_path / "cut", opts=opts)[0] == 0
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


REFERENCES = {
    "coop_end_csc0": ("CoOp", "prompt_learner", "prompt_learner."),
    "cocoop": ("CoCoOp", "prompt_learner", "prompt_learner."),
    "maple_depth3": ("MaPLe", "MultiModalPromptLearner", ""),
    "cilmp_depth3": ("CILMP", "VLPromptLearner", ""),
}


OPTIONS = ("ctx_init", "prompt_depth", "prompt_depth_text", "prompt_depth_vision")  # in the golden files' metadata
OPTIONS += ("prefix_length", "suffix_length", "low_rank_dimension")


@pytest.mark.parametrize("golden", sorted(REFERENCES))
def test_checkpoints_of_the_reference_implementations_load(run, golden, tmp_path):
    """As they write them: their folder, their names, class-dependent buffers beside what is learned."""
    trainer, folder, prefix = REFERENCES[golden]
    path = HOME / f"tests/golden/{golden}.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    learned = {k[6:].removeprefix(prefix): v for k, v in tensors.items() if k.startswith("param.")}
    learned |= {"token_prefix": torch.zeros(3, 1, 64), "token_suffix": torch.zeros(3, 72, 64)}
    (tmp_path / folder).mkdir()
    state = dict(state_dict=learned, epoch=5, optimizer=None, scheduler=None, val_result=None)
    torch.save(state, tmp_path / folder / "model.pth.tar-5")
    opts = ["MODEL.BACKBONE.PATH", HOME / "tests/golden/tiny_clip.safetensors", "INPUT.SIZE", "(32, 32)"]
    block = f"TRAINER.{trainer.upper()}"
    opts += [item for key in OPTIONS if key in said for item in (f"{block}.{key.upper()}", said[key])]
    if trainer == "CILMP":
        states = [value for key, value in tensors.items() if key.startswith("llm.")]
        knowledge = make_knowledge(tmp_path, {name: torch.randn_like(states[0]) for name in FINDINGS})
        opts += ["TRAINER.CILMP.REPRESENTATIONS", knowledge, "TRAINER.CILMP.N_CTX_VISION", said["n_ctx"]]
        opts += ["TRAINER.CILMP.N_CTX_TEXT", said["n_ctx"]]
    elif "n_ctx" in said:
        opts += [f"{block}.N_CTX", said["n_ctx"]]
    flags = ["--eval-only", "--model-dir", str(tmp_path), "--load-epoch", "5"]
    code, error = run(trainer, tmp_path / "out", *flags, opts=opts)
    assert code == 0, error


FINDINGS = ["nodule", "cyst", "calcification", "effusion", "spiculated mass", "fracture", "consolidation", "cavity"]


def make_knowledge(folder: Path, states: dict[str, torch.Tensor]) -> Path:
    path = folder / "authors" / "phantoms"
    path.mkdir(parents=True)
    for name, tensor in states.items():
        torch.save(tensor, path / f"{name}.pth")
    return path


@pytest.fixture(scope="session")
def coop_run(data, tmp_path_factory) -> Path:
    """A finished run of another trainer."""
    out = tmp_path_factory.mktemp("coop")
    argv = ["train.py", "--root", data, "--seed", 1, "--trainer", "CoOp", "--output-dir", out]
    argv += ["--dataset-config-file", HOME / "configs/datasets/phantoms.yaml"]
    argv += ["--config-file", HOME / "configs/trainers/CoOp/tiny.yaml", *QUICK, "TEST.SAVE_PREDICTIONS", True]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sys, "argv", list(map(str, argv)))
        patch.setattr(sys, "stdout", sys.stdout)
        exit_on_user_error(train.guarded)
    return out


def test_a_finished_run_predicts_as_in_its_test(coop_run):
    saved, trainer = Predictions.read(coop_run), restore(coop_run, "cpu")
    rows = predict.logits_of(trainer, saved.paths[::80], batch_size=4, workers=0)
    answers, errors = zip(*((predict.answer(path, row), error) for path, row, error in rows), strict=True)
    np.testing.assert_allclose([a.probabilities for a in answers], saved.probabilities[::80], atol=2e-5)
    assert trainer.classnames == saved.classnames and not any(errors)


SLIPS = {  # what the user did: (trainer, flags, options, what the line must say)
    "trainer": ("CLIMP", ["--config-file", "none.yaml"], [], "Unknown trainer 'CLIMP'. Did you mean CILMP"),
    "data set": ("CoOp", [], ["DATASET.NAME", "PHANTOM"], "Unknown data set 'PHANTOM'. Did you mean PHANTOMS"),
    "root": ("CoOp", ["--root", "/nowhere"], ["DATASET.NAME", "BUSI"], "No data folder at /nowhere"),
    "key": ("CoOp", [], ["OPTIM.EPOCHS", "3"], "Config key OPTIM.EPOCHS does not exist. Did you mean OPTIM.MAX_EPOCH"),
    "value": ("CoOp", [], ["OPTIM.LR", "fast"], "OPTIM.LR cannot be 'fast'"),
    "pair": ("CoOp", [], ["OPTIM.LR"], "come in pairs"),
    "config file": ("CoOp", ["--config-file", "configs/none.yaml"], [], "No config file at configs/none.yaml"),
    "backbone": ("CoOp", ["--backbone", "ViT-B16"], [], "Unknown backbone 'ViT-B16'. Did you mean ViT-B/16"),
    "weights": ("CoOp", [], ["MODEL.BACKBONE.PATH", "none.pt"], "No backbone weights at none.pt"),
    "size": ("CoOp", [], ["INPUT.SIZE", "(224, 224)"], "the backbone reads 64 x 64 pixels"),
    "precision": ("CoOp", [], ["TRAINER.COOP.PREC", "fp8"], "PREC is 'fp8'; it has to be one of"),
    "checkpoint": ("CILMP", ["--eval-only", "--model-dir", "COOP"], [], "trainer CoOp there, CILMP asked"),
    "epoch": ("CoOp", ["--eval-only", "--model-dir", "COOP", "--load-epoch", "9"], [], "there: model.pth.tar-2"),
    "depth": ("CoCoOp", ["--eval-only", "--model-dir", "COOP"], [], "trainer CoOp there, CoCoOp asked"),
    "representations": ("CILMP", [], ["TRAINER.CILMP.REPRESENTATIONS", "none.safetensors"], "none.safetensors"),
    "intervention": ("CILMP", [], ["TRAINER.CILMP.INTERVENTION", "lorft"], "one of conditional, loreft, noreft, none"),
    "ends": ("CILMP", [], ["TRAINER.CILMP.PREFIX_LENGTH", "40"], "PREFIX_LENGTH + SUFFIX_LENGTH is 44"),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_clear_line(run, coop_run, slip, tmp_path, monkeypatch):
    monkeypatch.chdir(HOME)
    trainer, flags, opts, expected = SLIPS[slip]
    flags = [str(coop_run) if flag == "COOP" else flag for flag in flags]
    code, said = run(trainer, tmp_path, *flags, opts=opts)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and expected in lines[0], said
    assert "Traceback" not in said and not (tmp_path / "result.json").exists()


def test_a_class_without_representation_is_named(run, tmp_path):
    knowledge = make_knowledge(tmp_path, {name: torch.randn(12, 8) for name in FINDINGS[:-1]})
    code, said = run("CILMP", tmp_path / "out", opts=["TRAINER.CILMP.REPRESENTATIONS", knowledge])
    assert code == 2 and "cavity" in said and str(knowledge) in said and "Traceback" not in said


def test_a_corrupt_image_is_named_before_training(run, data, tmp_path):
    assert run("ZeroshotCLIP", tmp_path / "fine")[0] == 0  # draws the data set
    root = tmp_path / "data"
    shutil.copytree(data, root)
    broken = next((root / "phantoms" / "cyst").glob("test_*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    code, said = run("CoOp", tmp_path / "out", root=root)
    assert code == 2 and broken.name in said and "Traceback" not in said
    assert "epoch [1/" not in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize(
    "path", sorted((HOME / "configs/trainers").glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_every_yaml_fits_its_trainer(path):
    from cilmp.trainers.engine.config import default_cfg, for_dataset, merge, read_yaml

    cfg = default_cfg()
    cfg.TRAINER.NAME = path.parent.name
    node = read_yaml(str(path), cfg)
    published = node.pop("DATASETS", type(node)())
    for part in (node, *(for_dataset(published, dataset, str(path)) for dataset in published)):
        assert part or part is node
        merge(cfg, part, str(path))


@pytest.mark.parametrize("backbone", ["tiny_bert", "biomedclip", "vit_b16"])
def test_every_trainer_comes_with_a_yaml_for_each_backbone(backbone):
    there = {path.parent.name for path in (HOME / "configs/trainers").glob(f"*/{backbone}.yaml")}
    assert there == set(TRAINERS)


def test_the_authors_yaml_drives_cilmp(tmp_path):
    """They keep CILMP's options in TRAINER.PROMPTSRC, beside some that only PromptSRC reads."""
    from cilmp.trainers.engine.config import default_cfg, merge, read_yaml

    path = tmp_path / "vit_b16.yaml"
    path.write_text("TRAINER:\n  PROMPTSRC:\n    N_CTX_TEXT: 3\n    PROMPT_DEPTH_TEXT: 7\n    TEXT_LOSS_WEIGHT: 25\n")
    cfg = default_cfg()
    cfg.TRAINER.NAME = "CILMP"
    merge(cfg, read_yaml(str(path), cfg), str(path))
    assert (cfg.TRAINER.CILMP.N_CTX_TEXT, cfg.TRAINER.CILMP.PROMPT_DEPTH_TEXT) == (3, 7)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["CILMP", "ProGrad"])  # ProGrad has a backward of its own
def test_two_processes_learn_what_one_learns_from_the_joined_batch(trainer, data, tmp_path):
    """torchrun over gloo against one process with twice the batch: the same prompts, to rounding."""
    common = ["train.py", "--root", data, "--seed", 1, "--trainer", trainer]
    common += ["--config-file", f"configs/trainers/{trainer}/tiny.yaml", "--transforms", "normalize"]
    common += ["--dataset-config-file", "configs/datasets/phantoms.yaml"]
    opts = [*QUICK, "OPTIM.MAX_EPOCH", 3, "TEST.NO_TEST", True]
    opts += ["TRAINER.CILMP.DROPOUT", 0.0] if trainer == "CILMP" else []
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone"]
    for name, program, size in (("one", [], 16), ("two", launch, 8)):  # 16 images: a whole epoch a step
        argv = [sys.executable, *program, *common, "--output-dir", tmp_path / name, *opts]
        argv += ["DATALOADER.TRAIN_X.BATCH_SIZE", size]
        done = subprocess.run(list(map(str, argv)), cwd=HOME, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key, value in one.items():
        assert (value - two[key]).norm() <= 1e-4 * value.norm(), key
