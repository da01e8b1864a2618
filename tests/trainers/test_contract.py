"""What every trainer promises, a newly registered one too: what it trains, at which rate, and what it leaves behind.

Each learns once for each image tower it allows: three epochs of two steps, on 16 phantoms that look the same in every
epoch, without weight decay, so that a weight moves by its gradient alone.  No gradient is zero by design.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from models import CLASSNAMES, openai_clip
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import cilmp.datasets
import cilmp.trainers  # noqa: F401  both register
from cilmp.clip.backbones import TINY, load_clip
from cilmp.trainers.engine.config import default_cfg, merge, merge_pairs, read_yaml, trainers
from cilmp.trainers.engine.flops import cost, plain_attention
from cilmp.trainers.features import FeatureTrainer, FrozenTrainer
from cilmp.trainers.method import Task
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import load_checkpoint, set_random_seed

HOME = Path(__file__).parents[2]
EPOCHS, STEPS, WARM = 3, 2, 1  # STEPS in each epoch
MEAN, STD = 3, 2  # of the average over the epochs, where a trainer has one
KINDS = {name: TRAINER_REGISTRY.get(name) for name in trainers()}
SIZES = {"vit": 64, "resnet": 32}
FAST = ("CoOp", "CILMP", "LinearProbe", "ZeroshotCLIP")  # of each kind one
PAIRS = [(name, tower) for name, kind in KINDS.items() for tower in SIZES if tower == "vit" or not kind.method.vit_only]
CASES = [pytest.param(pair, marks=() if pair[0] in FAST else pytest.mark.slow, id="-".join(pair)) for pair in PAIRS]

# What is trained, of the trainers known here; the depths are those of configs/trainers/*/tiny.yaml.
LINEAR = ("weight", "bias")
GATE = ("learned_source", "image_feature_learned_weight.0", "image_feature_learned_weight.1")
SHIFT = ["rotate_layer.weight", *(f"{layer}.{part}" for layer in GATE for part in LINEAR)]
PROMPTS = [f"{side}.{i}" for side in ("ctx", "vision") for i in range(4)]  # CILMP's, of which it takes the average
KEYS = {
    "CoOp": ["ctx"],
    "CoCoOp": ["ctx", *(f"meta_net.linear{i}.{part}" for i in (1, 2) for part in LINEAR)],
    "MaPLe": [
        *("ctx", "proj.weight", "proj.bias", "compound_prompts_text.0", "compound_prompts_text.1"),
        *(f"compound_prompt_projections.{i}.{part}" for i in range(2) for part in LINEAR),
    ],
    "CILMP": [
        *PROMPTS,
        *(f"layers.{i}.lora_proj.lora_{side}" for i in range(4) for side in "AB"),
        *(f"layers.{i}.{end}_intervention.{key}" for i in range(4) for end in ("prefix", "suffix") for key in SHIFT),
    ],
    "LinearProbe": ["head.weight", "head.bias"],
    "ZeroshotCLIP": [],
    "ZeroshotCLIP2": [],
}


def image_tower(file: Path) -> list[str]:
    """What FullFineTune trains besides its head: the weights in the backbone's file, but not BatchNorm's statistics."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return [f"clip.{key}" for key in load_file(file) if key.startswith("visual.") and not key.endswith(statistics)]


@pytest.fixture(scope="session")
def towers(tmp_path_factory) -> dict[str, Path]:
    """The embedded ViT, and a random ResNet, whose BatchNorm keeps statistics."""
    path = tmp_path_factory.mktemp("towers") / "resnet.safetensors"
    save_file({key: value.contiguous() for key, value in openai_clip((1, 1, 1, 1)).state_dict().items()}, path)
    return {"vit": TINY, "resnet": path}


def build(name: str, folder: Path, root: Path, backbone: Path, size: int, seed: int):
    """The trainer as train.py builds it from its tiny.yaml and this test's options."""
    cfg = default_cfg()
    cfg.set_new_allowed(False)
    cfg.TRAINER.NAME = name
    yaml = str(HOME / f"configs/trainers/{name}/tiny.yaml")
    merge(cfg, read_yaml(yaml, cfg), yaml)
    options = {"DATASET.NAME": "PHANTOMS", "DATASET.ROOT": root, "DATASET.NUM_SHOTS": 4, "SEED": 1}
    options |= {"DATASET.SUBSAMPLE_CLASSES": "base", "DATALOADER.TRAIN_X.BATCH_SIZE": 8}
    options |= {"MODEL.BACKBONE.ACTIVATION": "quick_gelu"}
    options |= {"MODEL.BACKBONE.PATH": backbone, "INPUT.SIZE": (size, size), "INPUT.TRANSFORMS": ("normalize",)}
    if not issubclass(KINDS[name], FeatureTrainer):  # what is fitted at once has epochs of its own, if any
        options["OPTIM.MAX_EPOCH"] = EPOCHS
        options["OPTIM.LR"] = cfg.OPTIM.LR / 10  # at the full rate momentum may swing for longer than this run
    options |= {"OPTIM.WARMUP_EPOCH": WARM, "OPTIM.WEIGHT_DECAY": 0.0}
    options |= {"OUTPUT_DIR": folder, "TRAIN.CHECKPOINT_FREQ": 1, "TEST.NO_TEST": True, "USE_CUDA": False}
    own = {"PREC": "fp32", "GPA_MEAN": MEAN, "GPA_STD": STD, "CLASS_DEPTH": 1}  # the ResNet's text tower has 2 blocks
    options |= {f"TRAINER.{name.upper()}.{key}": own[key] for key in own.keys() & KINDS[name].defaults}
    merge_pairs(cfg, [str(item) for pair in options.items() for item in pair])
    set_random_seed(seed)
    trainer = build_trainer(cfg)
    trainer.set_model_mode("eval")
    return trainer


def state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, in a checkpoint or not."""
    return {key: value.detach().clone() for key, value in [*model.named_parameters(), *model.named_buffers()]}


class Seen(SimpleNamespace):
    """What was seen of a run; a failure's message would take minutes to spell all of its tensors."""

    __repr__ = object.__repr__


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


@pytest.fixture(scope="module", params=CASES)
def run(request, data, towers, tmp_path_factory) -> Seen:
    """A finished run: what a trainer was before, after each step and in the end, and the rate of each step."""
    name, tower = request.param
    folder = tmp_path_factory.mktemp(name)

    def again(seed: int):
        return build(name, folder, data, towers[tower], SIZES[tower], seed)

    trainer = again(1)
    model, update, rates, steps = trainer.model, trainer.update, [], []
    image, label = map(torch.cat, zip(*map(trainer.parse_batch_test, trainer.train_loader_x), strict=True))
    parameters, frozen = dict(model.named_parameters()), dict(model.clip.named_buffers(prefix="clip"))
    trained = {key for key, p in parameters.items() if p.requires_grad}
    trained |= (
        nn.Module.state_dict(model).keys() - parameters.keys() - frozen.keys()
    )  # buffers a method keeps, as a cache
    known = [*image_tower(towers[tower]), *KEYS["LinearProbe"]] if name == "FullFineTune" else KEYS.get(name, trained)

    def watched(losses) -> None:
        rates.append(trainer.get_current_lr())
        update(losses)
        steps.append(state(model))

    @torch.no_grad()
    def look() -> Seen:
        trainer.set_model_mode("eval")
        loss = sum(model.losses(image, label)[0].values())
        logits = trainer.model_inference(image)
        right = int((logits.argmax(-1) == label).sum())
        return Seen(state=state(model), loss=loss, logits=logits, right=right)

    run = Seen(name=name, trainer=trainer, folder=folder, again=again, image=image, trained=set(known))
    run.rates, run.steps = rates, steps
    run.in_steps = bool(trained) and not isinstance(trainer, FeatureTrainer)
    run.averages = "GPA_MEAN" in trainer.defaults
    trainer.update, run.before = watched, look()
    trainer.train()
    run.after = look()
    return run


def test_learning_changes_all_that_is_trained_and_nothing_else(run):
    """Nothing else: neither a frozen weight nor a buffer, bit for bit."""
    assert changed(run.before.state, run.after.state) == run.trained
    assert len(run.steps) == EPOCHS * STEPS * run.in_steps
    for step in run.steps[2:]:  # the first two are as small as a warm-up's
        assert changed(run.before.state, step) == run.trained


def test_learning_lowers_the_loss(run):
    """What is fitted at once may have been chosen by its accuracy."""
    if not run.trained:
        assert run.after.loss == run.before.loss
    elif run.in_steps or run.after.right <= run.before.right:
        assert run.after.loss < run.before.loss


def test_the_rate_follows_the_schedule(run):
    cosine = [(1 + math.cos(math.pi * (epoch - WARM) / EPOCHS)) / 2 for epoch in range(WARM, EPOCHS)]
    rates = [1e-5] * WARM + [run.trainer.cfg.OPTIM.LR * factor for factor in cosine]
    assert run.rates == pytest.approx([rate for rate in rates for _ in range(STEPS)] if run.in_steps else [])


def test_its_work_is_counted_and_nothing_is_moved_by_it(run):
    """Of one image: the tower at least; a step through it is more, one on its features less, and a fit has none."""
    model, clip = run.trainer.model, run.trainer.model.clip
    before = state(model)
    found = cost(model, run.trainer.steps)
    assert not changed(before, state(model)) and all(p.grad is None for p in model.parameters())
    with FlopCounterMode(display=False) as tower, torch.no_grad(), plain_attention():
        clip.visual(run.image[:1])
    assert found["forward"] >= tower.get_total_flops() / 1e9 > 0
    if not run.in_steps:
        assert found["step"] is None
    elif isinstance(run.trainer, FrozenTrainer):
        assert 0 < found["step"] < found["forward"] / 10
    else:
        assert found["step"] > found["forward"]


def test_a_run_ends_with_the_average_of_its_epochs_where_it_takes_one(run):
    ends = run.steps[STEPS - 1 :: STEPS]
    if not run.averages:
        assert not ends or not changed(ends[-1], run.after.state)
        return
    names = set(run.trainer.model.averaged())
    assert names == (set(PROMPTS) if run.name == "CILMP" else names & run.trained)
    assert changed(ends[-1], run.after.state) == names
    weights = [math.exp(-0.5 * ((epoch - MEAN) / STD) ** 2) for epoch in range(1, EPOCHS + 1)]
    for name in names:
        expected = sum(w * end[name].double() for w, end in zip(weights, ends, strict=True)) / sum(weights)
        torch.testing.assert_close(run.after.state[name].double(), expected, rtol=1e-6, atol=1e-7)


def test_checkpoints_hold_what_was_trained_and_nothing_else(run):
    kept = {run.trainer.folder} if run.trained else set()
    assert {path.name for path in run.folder.iterdir() if any(path.glob("model*"))} == (
        kept | {"average"} if run.averages else kept
    )
    last = run.trainer.max_epoch
    for epoch in range(1, last + 1) if run.in_steps else [last] if run.trained else []:
        saved = load_checkpoint(str(run.folder / run.trainer.folder / f"model.pth.tar-{epoch}"))
        then = run.after.state if epoch == last else run.steps[epoch * STEPS - 1]
        assert saved["epoch"] == epoch and saved["state_dict"].keys() == run.trained
        assert all(torch.equal(value, then[key]) for key, value in saved["state_dict"].items())


def test_a_fresh_trainer_with_the_checkpoint_gives_the_same_logits(run):
    fresh = run.again(seed=2)
    assert torch.equal(fresh.model_inference(run.image), run.after.logits) == (not run.trained)
    fresh.load_model(str(run.folder))
    assert torch.equal(fresh.model_inference(run.image), run.after.logits)
    if run.in_steps:  # an epoch that is asked for
        fresh.load_model(str(run.folder), epoch=1)
        assert not changed({key: run.steps[STEPS - 1][key] for key in run.trained}, fresh.model.state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_the_clip_it_is_given_is_frozen(name):
    known = dict(
        states=[torch.randn(12, 20) for _ in CLASSNAMES], sentences=[[f"a {c}", f"one {c}"] for c in CLASSNAMES]
    )
    task = Task(CLASSNAMES, **known)
    depths = {option: 2 for option in KINDS[name].defaults if "DEPTH" in option}
    method = KINDS[name].build(load_clip("tiny").requires_grad_(True), task, **depths)
    trained = {key.split(".")[0] for key, p in method.clip.named_parameters() if p.requires_grad}
    assert trained == {"FullFineTune": {"visual"}, "CLIPLoRA": {"text", "visual"}}.get(name, set())
