"""What must hold on a GPU: the reference's numbers, fast equal to literal in every precision, no step that waits.

Skipped where there is none; DEVICE=cpu runs on the CPU what can run there (scripts/gpu.sh runs it all).
"""

import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from finished import trained
from models import CLASSNAMES, random_clip
from PIL import Image
from reference import FILES, KINDS, build, load, named, stand_in
from step import memory
from yacs.config import CfgNode

from cilmp.analysis.flops import build as built
from cilmp.clip import CLIP
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.results import records
from cilmp.trainers import method as base
from cilmp.trainers.engine import crops, parallel
from cilmp.trainers.engine.config import default_cfg
from cilmp.trainers.engine.graph import Replayed, never_waiting
from cilmp.trainers.engine.loading import Images
from cilmp.trainers.method import Task
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.optim import build_optimizer

DEVICE = torch.device(os.environ.get("DEVICE", "cuda"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="no GPU"),
]
ON_CUDA = pytest.mark.skipif(DEVICE.type != "cuda", reason="of a GPU alone")
IN_STEPS = [kind.__name__ for kind in KINDS.values() if kind.steps == "images"]
DEPTHS = {"CILMP": dict(PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2), "MaPLe": dict(PROMPT_DEPTH=2), "CoOp": {}}


def tower(precision: str = "fp32"):
    return random_clip(2, 3, 3).float().cast(precision)


def method(name: str, precision: str):
    torch.manual_seed(1)
    task = Task(CLASSNAMES, states=[torch.randn(12, 20) for _ in CLASSNAMES])
    off = dict(DROPOUT=0.0) if name == "CILMP" else {}
    return KINDS[name.lower()].build(tower(precision), task, **DEPTHS[name], **off).to(DEVICE).train()


def result(model, precision: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one step, in fp32."""
    torch.manual_seed(2)
    image, label = torch.randn(4, 3, 32, 32).to(DEVICE), torch.tensor([0, 1, 2, 0], device=DEVICE)
    half = torch.float16 if DEVICE.type == "cuda" else torch.bfloat16
    with torch.autocast(DEVICE.type, half, enabled=precision == "amp"):
        losses, logits = model.losses(image, label)
    sum(losses.values()).backward()
    found = {key: p.grad.float() for key, p in model.named_parameters() if p.grad is not None}
    return logits.detach().float(), found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "amp"])
@pytest.mark.parametrize("name", DEPTHS)
def test_fast_equals_literal(name, precision):
    if precision == "fp16" and DEVICE.type == "cpu":
        pytest.skip("fp16 is for a GPU")
    fast, slow = method(name, precision), method(name, precision)
    slow.literal = True
    (ours, slopes), (theirs, steep) = result(fast, precision), result(slow, precision)
    scale = float(fast.clip.logit_scale.exp())
    assert (ours - theirs).abs().max() < (1e-4 if precision == "fp32" else 2**-7 * scale)
    assert slopes.keys() == steep.keys()
    if precision == "fp32":  # in half precision single gradients may be rounding alone
        for key, slope in steep.items():
            assert (slopes[key] - slope).norm() <= 1e-3 * slope.norm() + 1e-6, key


@pytest.mark.parametrize("name", [name for name in FILES if name != "promptsrc_gpa"])
def test_reference_numbers(name):
    """As tests/trainers/test_golden.py, to a GPU's rounding."""
    kind, model, golden, options = build(name)
    load(model, named("param", golden, model))
    model = model.to(DEVICE).train()
    losses, logits = model.losses(golden["images"].to(DEVICE), golden["labels"].to(DEVICE))
    stand_in(kind, model, options).backward(losses)
    assert (logits.cpu() - golden["logits"]).abs().max() < 1e-4
    ours = dict(model.named_parameters())
    for key, value in named("grad", golden, model).items():
        assert (ours[key].grad.cpu() - value).norm() <= 1e-3 * value.norm(), key


@ON_CUDA
@pytest.mark.parametrize("name", IN_STEPS)
def test_a_step_never_waits(name):
    model = built(name, random_clip(2, 12, 12).float().to(DEVICE), CLASSNAMES, (12, 20)).to(DEVICE).train()
    kind = KINDS[name.lower()]
    trainer = stand_in(kind, model, CfgNode(kind.defaults))
    optim = build_optimizer([p for p in model.parameters() if p.requires_grad], default_cfg().OPTIM)
    image, label = torch.randn(4, 3, 32, 32, device=DEVICE), torch.tensor([0, 1, 2, 0], device=DEVICE)

    def step() -> None:
        trainer.gradients(image, label)
        optim.step()

    step()  # a library's first call may wait
    with never_waiting():
        step()


@ON_CUDA
@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("name", IN_STEPS)
def test_replayed_steps_have_the_numbers_of_eager_ones(name, precision):
    """Dropout, another learning rate at every step, a scaled loss, and a short batch in between."""

    def train(replayed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = built(name, random_clip(2, 12, 12).float().to(DEVICE), CLASSNAMES, (12, 20)).to(DEVICE).train()
        kind = KINDS[name.lower()]
        trainer = stand_in(kind, model, CfgNode(kind.defaults), precision)
        trained = [p for p in model.parameters() if p.requires_grad]
        optim = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=5e-4)
        scaled = dict(init_scale=2.0**10, enabled=precision == "amp")
        scaler = (
            torch.cuda.amp.GradScaler(**scaled) if torch.__version__ < "2.3" else torch.amp.GradScaler("cuda", **scaled)
        )
        trainer.scaler = scaler
        step = Replayed(trainer.gradients, model) if replayed else trainer.gradients
        for i, size in enumerate((4, 4, 2, 4, 4)):
            optim.param_groups[0]["lr"] = 0.01 / (i + 1)
            image, label = torch.randn(size, 3, 32, 32), torch.randint(3, (size,))
            terms, _ = step(image.to(DEVICE), label.to(DEVICE))
            assert all(value.isfinite() for value in terms.values())
            scaler.step(optim)
            scaler.update()
        assert not replayed or step.graph is not None
        return {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}

    eager, replayed = train(False), train(True)
    for key, value in eager.items():
        torch.testing.assert_close(replayed[key], value, rtol=1e-3, atol=1e-5 if precision == "fp32" else 1e-3)


class Weight(torch.nn.Module):
    """A loss whose gradient is factor * image's sum * one draw of the GPU, as `reads` has it."""

    def __init__(self, reads):
        super().__init__()
        self.weight, self.reads, self.factor = torch.nn.Parameter(torch.ones(3, device=DEVICE)), reads, 1.0

    def step(self, image: torch.Tensor, label: torch.Tensor):
        self.weight.grad = None
        loss = (self.weight * self.reads(self, image.sum())).sum() * torch.rand((), device=DEVICE)
        loss.backward()
        return {"ce": loss.detach()}, label


def counting(model: Weight, total: torch.Tensor) -> torch.Tensor:
    model.factor += 1
    return total * model.factor


@ON_CUDA
@pytest.mark.parametrize(
    ("reads", "word"),
    [
        (lambda model, total: float(total), "waits"),
        (lambda model, total: total * random.random(), "draws"),
        (counting, "changes settings"),
    ],
)
def test_a_step_that_cannot_be_replayed_is_told(reads, word, capsys):
    model = Weight(reads)
    replayed = Replayed(model.step, model)
    replayed(torch.ones(2, device=DEVICE), torch.zeros(2, device=DEVICE))
    assert word in capsys.readouterr().out and replayed.graph is None
    assert model.weight.grad.isfinite().all()


@ON_CUDA
def test_a_setting_that_changes_is_seen(capsys):
    model = Weight(lambda model, total: total * model.factor)
    replayed = Replayed(model.step, model)
    for factor in (1.0, 3.0):
        model.factor = factor
        replayed.look()
        torch.manual_seed(1)
        replayed(torch.ones(2, device=DEVICE), torch.zeros(2, device=DEVICE))
        torch.manual_seed(1)
        torch.testing.assert_close(model.weight.grad, 2 * factor * torch.rand(3, device=DEVICE)[0].expand(3))
    assert "have changed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["CILMP", "CoCoOp"])
def test_the_text_of_a_test_batch_stays_within_its_bytes(name, monkeypatch):
    clip = CLIP(ImageTower(32, 16, 24, 12, 1, 12), TextTower(512, 12, 8, 77, 12), 49408).eval()
    model = built(name, clip, [f"finding {i}" for i in range(50)], (12, 20)).to(DEVICE).eval()
    image = torch.randn(32, 3, 32, 32, device=DEVICE)
    images = memory(lambda: model.image(image), DEVICE)  # MiB
    whole = memory(lambda: model.infer(image), DEVICE) - images
    monkeypatch.setattr(base, "EVAL_BYTES", int(whole / 4 * 2**20))
    assert memory(lambda: model.infer(image), DEVICE) <= whole / 4 + images


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def run(data, capsys):
    """run(folder, KEY, VALUE, ...): CoOp on the phantoms -> its accuracy and what it printed."""

    def call(folder: Path, *opts: object) -> tuple[float, str]:
        there = ["USE_CUDA", DEVICE.type == "cuda"]
        trained(data, folder, "OPTIM.MAX_EPOCH", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, *there, *opts, shots=2)
        return records.read(folder)["metrics"]["accuracy"], capsys.readouterr().out

    return call


@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_a_resumed_run_ends_as_the_whole_one(run, precision, tmp_path):
    """Two epochs at once, and one epoch, then the other."""
    opts = ["TRAIN.CHECKPOINT_FREQ", 1, "TRAINER.COOP.PREC", precision]
    whole, _ = run(tmp_path / "run", *opts)
    (tmp_path / "run" / records.NAME).unlink()
    for path in (tmp_path / "run").rglob("*.tar-2"):
        path.unlink()
    for path in (tmp_path / "run").rglob("checkpoint"):
        path.write_text("model.pth.tar-1\n")
    resumed, said = run(tmp_path / "run", *opts)
    assert "epoch [2/2]" in said and "epoch [1/2]" not in said
    assert resumed == pytest.approx(whole, abs=0.5)


@ON_CUDA
def test_a_run_ends_the_same_with_and_without_a_graph(run, tmp_path):
    """Workers, schedules, a validation between the epochs."""
    opts = ["OPTIM.MAX_EPOCH", 3, "TRAIN.PRINT_FREQ", 1, "TEST.FINAL_MODEL", "best_val", "DATALOADER.NUM_WORKERS", 2]
    ends = [run(tmp_path / mode, "TRAIN.CUDA_GRAPH", mode, *opts) for mode in ("off", "on")]
    losses = [[float(loss) for loss in re.findall(r"loss (\S+) ", said)] for _, said in ends]
    assert ends[0][0] == pytest.approx(ends[1][0], abs=0.5)
    assert len(losses[0]) == 12 and losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert ["replayed" in said for _, said in ends] == [False, True]


@ON_CUDA
@pytest.mark.parametrize("products", ["highest", "high"])
def test_crops_are_those_of_the_cpu(tmp_path, request, products):
    """Byte by byte, with TF32 too, and the host never waits."""
    cfg = default_cfg()
    cfg.SEED, cfg.INPUT.SIZE, cfg.DATASET.CACHE_MB, cfg.DATALOADER.NUM_WORKERS = 1, (224, 224), 100, 0
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (200 + 40 * i, 500 - 30 * i, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    items = [Datum(str(tmp_path / f"{i}.png"), i, classname=str(i)) for i in range(8)]
    options = dict(batch_size=8, tfm=build_transform(cfg, is_train=True), dataset_wrapper=Images)
    (batches, there), (_, here) = (
        crops.on_device(build_data_loader(cfg, "SequentialSampler", items, **options), torch.device(kind))
        for kind in (DEVICE, "cpu")
    )
    batch = next(iter(batches))["img"]
    exact = here(batch)
    before = torch.get_float32_matmul_precision()
    request.addfinalizer(lambda: torch.set_float32_matmul_precision(before))
    torch.set_float32_matmul_precision(products)
    there(batch)  # mean and deviation go there once
    with never_waiting():
        found = there(batch)
    torch.testing.assert_close(found.cpu(), exact, rtol=1e-6, atol=1e-6)  # a byte is 0.014 and more


@pytest.mark.parametrize("name", DEPTHS)
def test_gradients_pass_through_ddp(name):
    """NCCL on a GPU, with one process: what its hooks sum is what backward left."""
    backend = "nccl" if DEVICE.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = method(name, "fp32")
        image, label = torch.randn(4, 3, 32, 32, device=DEVICE), torch.tensor([0, 1, 2, 0], device=DEVICE)
        trained = [p for p in model.parameters() if p.requires_grad]
        expected = torch.autograd.grad(sum(model.losses(image, label)[0].values()), trained)
        sum(parallel.wrap(model)(image, label)[0].values()).backward()
        for value, exact in zip(trained, expected, strict=True):
            torch.testing.assert_close(value.grad, exact, rtol=1e-4, atol=1e-6)
    finally:
        dist.destroy_process_group()
