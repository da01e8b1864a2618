"""What third parties lean on in Dassl 0.6.3, by its own numbers: the stored values were drawn with the original."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torchvision.models import WeightsEnum, get_model

from dassl.data import DataManager, DatasetWrapper
from dassl.data.samplers import build_sampler
from dassl.data.transforms.transforms import Cutout, GaussianNoise, Random2DTranslation
from dassl.engine import SimpleNet, TrainerX, TrainerXU
from dassl.evaluation import Classification
from dassl.modeling import build_backbone, build_head
from dassl.modeling import ops as mixing
from dassl.modeling.ops import EFDMix, MixStyle, ReverseGrad, mixup
from dassl.modeling.ops import utils as ops
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.utils import AverageMeter, set_random_seed

README = Path(__file__).parents[2] / "dassl-compat" / "README.md"
ROWS = re.findall(r"^\| `(dassl\.[\w.]+)` \|(.*)\|(.*)\|$", README.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("module, has, lacks", ROWS, ids=[row[0] for row in ROWS])
def test_the_readme_knows_what_is_here(module, has, lacks):
    def missing(names):
        return [name for name in re.findall(r"`(\w+)`", names) if not hasattr(importlib.import_module(module), name)]

    assert not missing(has)
    assert missing(lacks) == re.findall(r"`(\w+)`", lacks)


def test_a_trainer_of_labelled_images_is_none_of_unlabelled():
    assert not issubclass(TrainerX, TrainerXU)


# the evaluator


def test_an_evaluator_can_be_built_upon(cfg):
    """As a third party's: reset() needs what its constructor makes behind Dassl's; evaluate() reads Dassl's state."""

    class Theirs(Classification):
        def __init__(self, cfg, lab2cname=None):
            super().__init__(cfg, lab2cname)
            self.resets = 0

        def reset(self):
            super().reset()
            self.resets += 1

        def evaluate(self):
            return self._correct, self._total, self._y_true, self._y_pred, self._per_class_res

    for each, expected in ((False, None), (True, {2: [1, 0], 0: [1]})):
        cfg.TEST.PER_CLASS_RESULT = each
        evaluator = Theirs(cfg, {0: "a", 1: "b", 2: "c"})
        for _ in range(2):
            evaluator.reset()
            evaluator.process(torch.eye(3)[[2, 1]], torch.tensor([2, 2]))
            evaluator.process(torch.eye(3)[[0]], torch.tensor([0]))
        assert evaluator.evaluate() == (2, 3, [2, 2, 0], [2, 1, 0], expected)
        assert evaluator.resets == 2 and {type(label) for label in evaluator._y_true + evaluator._y_pred} == {int}


def test_what_a_subclass_counts_is_what_is_told(cfg):
    class Lenient(Classification):
        def process(self, mo, gt):
            self._total += len(gt)
            self._correct += len(gt)
            self._y_true += gt.tolist()
            self._y_pred += gt.tolist()

    evaluator = Lenient(cfg)
    evaluator.process(torch.zeros(2, 3), torch.tensor([1, 2]))
    assert evaluator.evaluate()["accuracy"] == 100.0


# schedules

WARM = {
    ConstantWarmupScheduler: ({"cons_lr": 1e-5}, [1e-5, 1e-5, 1e-5, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
    LinearWarmupScheduler: ({"min_lr": 1e-5}, [1e-5, 0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
}


def warm(kind):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    return optimizer, kind(optimizer, StepLR(optimizer, 2, 0.5), 3, **WARM[kind][0])


@pytest.mark.parametrize("old", [False, True], ids=["", "of 0.6.3"])
@pytest.mark.parametrize("kind", WARM)
def test_warm_up_before_a_schedule_of_torch(kind, old):
    """Resumed behind any epoch, from its own state and from what a checkpoint of 0.6.3 leaves of it: the epoch."""
    rates = WARM[kind][1]
    for resumed in range(len(rates)):
        optimizer, scheduler = warm(kind)
        for epoch, rate in enumerate(rates):
            if epoch == resumed:
                states = optimizer.state_dict(), {"last_epoch": epoch} if old else scheduler.state_dict()
                optimizer, scheduler = warm(kind)
                optimizer.load_state_dict(states[0])
                scheduler.load_state_dict(states[1])
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
            optimizer.step()
            scheduler.step()
            assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


def test_a_warm_up_fits_a_checkpoint_that_runs_nothing(tmp_path):
    optimizer, scheduler = warm(ConstantWarmupScheduler)
    torch.save(scheduler.state_dict(), tmp_path / "state")
    scheduler.load_state_dict(torch.load(tmp_path / "state", weights_only=True))


# batches


def test_options_of_unlabelled_images_are_not_read_without_any(cfg):
    del cfg.DATALOADER["TRAIN_U"]
    assert DataManager(cfg).train_loader_u is None


def test_both_loaders_start_before_the_first_batch(cfg):
    """A start draws from the random state: Dassl's draws come in this order."""
    happened = []

    class Loader(list):
        def __iter__(self):
            happened.append(f"start {self[0][0]}")
            return (happened.append(batch) or batch for batch in super().__iter__())

    class Both(TrainerXU):
        def build_model(self):
            self.train_loader_x, self.train_loader_u = Loader(["x1", "x2", "x3"]), Loader(["u1", "u2"])

        def forward_backward(self, batch_x, batch_u):
            happened.append("step")

    cfg.TRAIN.PRINT_FREQ = 3
    trainer = Both(cfg)
    trainer.show_progress = lambda *meters: None
    trainer.run_epoch()
    steps = "start x, start u, x1, u1, step, x2, u2, step, x3, start u, u1, step"
    assert happened == steps.split(", ")


SAMPLED = {
    ("RandomDomainSampler", 4, 2): (12, [17, 0, 16, 1, 8, 2, 10, 7, 13, 4, 6, 15]),
    ("RandomDomainSampler", 2, 1): (16, [3, 14, 8, 0, 10, 13, 16, 4, 1, 7]),
    ("SeqDomainSampler", 4, 0): (12, [4, 16, 17, 11, 13, 7, 3, 5, 1, 10, 0, 12]),
    ("RandomClassSampler", 4, 2): (16, [1, 13, 11, 3, 5, 9, 2, 10, 17, 17, 15, 7, 6, 14, 8, 12]),
}


@pytest.mark.parametrize("kind, size, n", SAMPLED)
def test_samplers_draw_as_dassls(kind, size, n):
    """Domains 1, 0, 1, 1, 0, 1 ...; four classes, and a fifth of one item, which is drawn twice."""
    items = [SimpleNamespace(label=i % 4 if i < 17 else 4, domain=(1, 0, 1)[i % 3]) for i in range(18)]
    set_random_seed(3)
    sampler = build_sampler(kind, data_source=items, batch_size=size, n_domain=n, n_ins=n)
    assert (len(sampler), list(sampler)) == SAMPLED[kind, size, n]


def test_augmentations_draw_as_dassls():
    ramp = np.add.outer(np.arange(8) * 16, np.arange(8) * 8).astype(np.uint8)
    image, translated = Image.fromarray(ramp).convert("RGB"), Random2DTranslation(8, 8)
    set_random_seed(3)
    sums = [int(np.asarray(translated(image))[..., 0].sum()) for _ in range(8)]
    assert sums == [5152, 5376, 5376, 5600, 5600, 5152, 5376, 6048]
    set_random_seed(3)
    holes = [(Cutout(1, 4)(torch.ones(1, 10, 12))[0] == 0).nonzero()[0].tolist() for _ in range(8)]
    assert holes[::2] == [[6, 7], [6, 0], [7, 7], [4, 0]]
    set_random_seed(3)
    noise = [GaussianNoise(0.5, 0.15)(torch.zeros(1, 2, 2)).sum().item() for _ in range(6)]
    assert noise == pytest.approx([2.068, 0.0, 2.004, 0.0, 0.0, 2.1953], abs=1e-4)


def test_a_wrappers_views_can_be_overridden(cfg):
    class Pairs(DatasetWrapper):
        def _transform_image(self, tfm, img0):
            return torch.stack([super(Pairs, self)._transform_image(tfm, img0) for _ in range(2)])

    assert next(iter(DataManager(cfg, dataset_wrapper=Pairs).test_loader))["img"].shape == (24, 2, 3, 8, 8)


# models


@pytest.mark.parametrize(
    "name, entries, first, last, width, total",
    [
        ("resnet18", 120, "conv1.weight", "layer4.1.bn2.num_batches_tracked", 512, 4709.4771),
        ("resnet18_ms_l12", 120, "conv1.weight", "layer4.1.bn2.num_batches_tracked", 512, 4709.4771),
        ("alexnet", 14, "features.0.weight", "classifier.4.bias", 4096, 27.5942),
    ],
)
def test_backbones_have_dassls_names_and_first_weights(name, entries, first, last, width, total):
    torch.manual_seed(0)
    model = build_backbone(name, verbose=False, pretrained=False)
    keys = list(model.state_dict())
    assert (len(keys), keys[0], keys[-1], model.out_features) == (entries, first, last, width)
    assert sum(p.double().sum().item() for p in model.parameters()) == pytest.approx(total, abs=1e-3)
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, width)


@pytest.mark.parametrize("name, published", [("resnet18_ms_l1", "resnet18"), ("mobilenet_v2", "mobilenet_v2")])
def test_pretrained_weights_are_the_first_published(monkeypatch, name, published):
    asked, weights = [], get_model(published).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **options: asked.append(str(self)) or weights)
    model = build_backbone(name, verbose=False)
    assert len(asked) == 1 and asked[0].endswith("IMAGENET1K_V1")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_a_network_has_dassls_names(cfg):
    model = cfg.MODEL
    model.BACKBONE.NAME, model.BACKBONE.PRETRAINED, model.HEAD.NAME = "resnet18", False, "mlp"
    model.HEAD.HIDDEN_LAYERS, model.HEAD.ACTIVATION = (4,), "leaky_relu"
    keys = list(SimpleNet(cfg, model, 3).state_dict())
    assert keys[0] == "backbone.conv1.weight"
    assert [key for key in keys if key.startswith("head")][:2] == ["head.mlp.0.weight", "head.mlp.0.bias"]
    assert keys[-2:] == ["classifier.weight", "classifier.bias"]


def test_a_leaky_head_leaks_a_hundredth():
    torch.manual_seed(0)
    head = build_head("mlp", verbose=False, in_features=2, hidden_layers=(3,), activation="leaky_relu", bn=False)
    assert head(torch.ones(1, 2))[0].tolist() == pytest.approx([0.3600, -0.0054, -0.0015], abs=1e-4)
    with pytest.raises(ValueError, match="HIDDEN_LAYERS"):
        build_head("mlp", verbose=False, in_features=2, hidden_layers=())


MIXED = {
    (MixStyle, "random"): [4.1145, 156.1698, 1.0, 96.2823, 118.4962, 156.1698, 1.0, 156.1698],
    (MixStyle, "crossdomain"): [9.4034, 156.1698, 1.0, 61.3473, 63.8592, 154.7245, 1.0, 156.1698],
    (EFDMix, "random"): [4.2195, 156.1698, 1.0, 96.2602, 119.9524, 156.1698, 1.0, 156.1698],
    (EFDMix, "crossdomain"): [9.5555, 156.1698, 1.0, 61.2987, 64.6382, 154.7237, 1.0, 156.1698],
}


@pytest.mark.parametrize("kind, mix", MIXED)
def test_mixed_statistics(kind, mix):
    x = torch.arange(32.0).view(4, 2, 2, 2) ** 1.5
    set_random_seed(1)
    layer = kind(p=0.5, alpha=0.3, mix=mix)
    found = [layer(x)[i, i % 2, 0, 1].item() for _ in range(4) for i in (0, 3)]
    assert found == pytest.approx(MIXED[kind, mix], abs=1e-3)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("kind, name", [(MixStyle, "mixstyle"), (EFDMix, "efdmix")])
def test_mixing_is_switched_for_a_whole_model(kind, name):
    def switch(action):
        return getattr(mixing, f"{action}_{name}")

    other = MixStyle(p=1.0) if kind is EFDMix else EFDMix(p=1.0)
    model, x = nn.Sequential(nn.Identity(), kind(p=1.0)), torch.randn(4, 2, 3, 3)
    both = nn.ModuleList([model, other])
    with switch("run_without")(both):
        assert torch.equal(model(x), x) and not torch.equal(other(x), x)
    assert not torch.equal(model(x), x)
    with switch("run_with")(both, mix="crossdomain"):
        assert model[1].mix == "crossdomain" and other.mix == "random" and not torch.equal(model(x), x)
    assert torch.equal(model(x), x)
    wanted = {"activate": (True, "crossdomain"), "random": (True, "random"), "deactivate": (False, "random")}
    for action, (active, mix) in wanted.items():
        both.apply(switch(action))
        assert (torch.equal(model(x), x), model[1].mix) == (not active, mix)


def test_small_functions_of_semi_supervised_learning():
    zeros, ones = torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)
    set_random_seed(1)
    images, _ = mixup(zeros, ones, zeros[:, :, 0, 0], ones[:, :, 0, 0], 0.75)
    assert images.flatten().tolist() == pytest.approx([0.3675, 0.2407, 0.6993], abs=1e-4)
    _, labels = mixup(zeros, ones, zeros[:, :, 0, 0], ones[:, :, 0, 0], 0.75, preserve_order=True)
    assert labels.flatten().tolist() == pytest.approx([0.0119, 0.4082, 0.1805], abs=1e-4)
    assert ops.create_onehot(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert ops.sharpen_prob(torch.tensor([[0.2, 0.8]]))[0].tolist() == pytest.approx([1 / 17, 16 / 17])
    assert (ops.sigmoid_rampup(30, 100), ops.linear_rampup(30, 100)) == (pytest.approx(0.0862936), 0.3)
    assert (ops.sigmoid_rampup(-1, 100), ops.linear_rampup(300, 100)) == (pytest.approx(0.00673795), 1.0)
    student, teacher = nn.Linear(1, 1), nn.Linear(1, 1)
    expected = 0.9 * teacher.weight.item() + 0.1 * student.weight.item()
    ops.ema_model_update(student, teacher, 0.9)
    assert teacher.weight.item() == pytest.approx(expected)
    data, label = ops.shuffle_index(torch.arange(9), torch.arange(9))
    assert torch.equal(data, label) and sorted(data.tolist()) == list(range(9))
    x = torch.ones(2, requires_grad=True)
    (ReverseGrad()(x, 0.5) * torch.tensor([1.0, 2.0])).sum().backward()
    assert x.grad.tolist() == [-0.5, -1.0]


def test_a_meter_of_half_precision_neither_rounds_nor_overflows():
    meter = AverageMeter()
    for value in (40000.0, 40000.0, 0.1):
        meter.update(torch.tensor(value, dtype=torch.float16))
    assert meter.sum == pytest.approx(80000.1, abs=1e-4) and meter.avg == meter.sum / 3
