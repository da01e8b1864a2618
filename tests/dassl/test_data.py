"""Few-shot draws, loaders, samplers and transforms."""

import pickle
import random
import re
import traceback
from collections import Counter

import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DataManager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DatasetBase, Datum, build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.utils import set_random_seed


@pytest.fixture
def items(root):
    """Seven items each of labels 2, 0, 1 in this order of appearance, and one of label 3; domains 0 and 1."""
    found = [Datum(f"{root}/{i}.png", (2, 0, 1)[i % 3], i % 2, str((2, 0, 1)[i % 3])) for i in range(21)]
    return [*found, Datum(f"{root}/21.png", 3, 1, "3")]


def test_few_shots_are_random_sample_per_class_in_order_of_appearance(items):
    data = DatasetBase(train_x=items, test=items)
    random.seed(3)
    train, val = data.generate_fewshot_dataset(items, items[:9], num_shots=2)
    random.seed(3)  # the rule, written out
    groups = [[i for i in items if i.label == label] for label in (2, 0, 1, 3)]
    expected = [item for group in groups for item in (random.sample(group, 2) if len(group) >= 2 else group)]
    assert train == expected
    assert [i.label for i in train] == [2, 2, 0, 0, 1, 1, 3]
    assert [i.label for i in val] == [2, 2, 0, 0, 1, 1]
    repeated = data.generate_fewshot_dataset(items, num_shots=4, repeat=True)
    assert Counter(i.label for i in repeated) == {2: 4, 0: 4, 1: 4, 3: 4}
    assert data.generate_fewshot_dataset(items, num_shots=-1) is items
    assert data.generate_fewshot_dataset(items, items) == (items, items)


def test_dataset_base(items):
    data = DatasetBase(train_x=items, test=items[:1])
    assert (data.classnames, data.num_classes, data.val) == (["0", "1", "2", "3"], 4, None)
    assert data.lab2cname == {0: "0", 1: "1", 2: "2", 3: "3"}
    assert set(data.split_dataset_by_domain(items)) == {0, 1}
    gap = DatasetBase(train_x=[i for i in items if i.label != 1])
    assert (gap.num_classes, gap.classnames) == (4, ["0", "2", "3"])
    with pytest.raises(ValueError, match="'x'"):
        data.check_input_domains(["x"], [])


def test_datum(items, tmp_path):
    old = pickle.dumps(items[0])  # as a few-shot file made elsewhere: by class path and attribute names
    assert b"dassl.data.datasets.base_dataset" in old and b"_impath" in old
    assert vars(pickle.loads(old)) == vars(items[0])
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        Datum("nowhere.png")
    with pytest.raises(TypeError):
        Datum(tmp_path)
    with pytest.raises(AttributeError):
        items[0].label = 3


@pytest.mark.parametrize("n, size, lengths", [(10, 32, [10]), (40, 32, [32]), (64, 32, [32, 32])])
def test_training_drops_a_short_tail_only_behind_a_full_batch(cfg, items, n, size, lengths):
    source = (items * 3)[:n]
    for train, expected in ((True, lengths), (False, [min(size, n - i) for i in range(0, n, size)])):
        transform = build_transform(cfg, is_train=train)
        loader = build_data_loader(cfg, "SequentialSampler", source, size, tfm=transform, is_train=train)
        assert [len(batch["label"]) for batch in loader] == expected
        assert len(loader) == len(expected)


def test_batches(cfg):
    cfg.DATALOADER.K_TRANSFORMS, cfg.DATALOADER.RETURN_IMG0 = 2, True
    manager = DataManager(cfg)
    batch = next(iter(manager.train_loader_x))
    assert set(batch) == {"img", "label", "domain", "impath", "index", "img0"}
    assert [tuple(view.shape) for view in batch["img"]] == [(8, 3, 8, 8)] * 2
    assert not torch.equal(*batch["img"]) and batch["img0"].shape == (8, 3, 8, 8)
    for path, label, index in zip(batch["impath"], batch["label"], batch["index"], strict=True):
        item = manager.dataset.train_x[index]
        assert (item.impath, item.label) == (path, label)
    assert next(iter(manager.test_loader))["img"].shape == (24, 3, 8, 8)
    assert (manager.num_classes, manager.train_loader_u, len(manager.val_loader)) == (3, None, 1)
    cfg.DATALOADER.K_TRANSFORMS = 1
    weak_and_strong = [build_transform(cfg, is_train=True, choices=c) for c in (("normalize",), ("random_flip",))]
    batch = next(iter(DataManager(cfg, custom_tfm_train=weak_and_strong).train_loader_x))
    assert batch["img"].shape == batch["img2"].shape == (8, 3, 8, 8)


def test_epochs_differ_and_repeat_with_the_seed_in_living_workers(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2

    def epochs():
        set_random_seed(5)
        loader = DataManager(cfg).train_loader_x
        return [torch.stack([batch["img"].sum((1, 2, 3)) for batch in loader]).sort().values for _ in range(2)]

    first, second = epochs(), epochs()
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_in_one_line(cfg, items, tmp_path, workers):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    cfg.DATALOADER.NUM_WORKERS = workers
    source = [*items, Datum(str(bad), 0)]
    loader = build_data_loader(cfg, "SequentialSampler", source, 6, tfm=build_transform(cfg, False), is_train=False)
    with pytest.raises(OSError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"Cannot read the image {bad}") and "\n" not in str(caught.value)
    traceback.clear_frames(caught.tb)  # a loader left to the garbage collector waits five seconds for each worker


def test_nothing_to_load(cfg):
    with pytest.raises(ValueError, match="0 items"):
        build_data_loader(cfg, "SequentialSampler", [], 4, is_train=False)


def test_balanced_samplers(items):
    def batches(kind, size, **options):
        sampler = build_sampler(kind, data_source=items, batch_size=size, **options)
        drawn = list(sampler)
        assert len(sampler) == len(drawn)
        return [[items[i] for i in drawn[k : k + size]] for k in range(0, len(drawn), size)]

    for kind, options in (("RandomDomainSampler", {"n_domain": 2}), ("SeqDomainSampler", {})):
        found = batches(kind, 4, **options)
        assert len(found) == 5 and all(Counter(i.domain for i in batch) == {0: 2, 1: 2} for batch in found)
    assert [i.domain for i in batches("SeqDomainSampler", 4)[0]] == [0, 0, 1, 1]
    for batch in batches("RandomClassSampler", 6, n_ins=3):
        assert sorted(Counter(i.label for i in batch).values()) == [3, 3]
    with pytest.raises(ValueError, match="N_INS"):
        batches("RandomClassSampler", 2, n_ins=3)
    with pytest.raises(ValueError, match="N_DOMAIN"):
        batches("RandomDomainSampler", 5, n_domain=2)
    with pytest.raises(ValueError, match="Did you mean 'RandomSampler'"):
        batches("RandomSample", 4)


ORDER = """random_translation random_crop random_resized_crop random_flip imagenet_policy cifar10_policy svhn_policy
randaugment randaugment_fixmatch randaugment2 colorjitter randomgrayscale gaussian_blur cutout normalize gaussian_noise
instance_norm""".split()


def test_transforms_have_one_order(cfg):
    def built(choices):
        cfg.INPUT.TRANSFORMS = choices
        return [re.sub(" object at .*", "", str(step)) for step in build_transform(cfg).transforms]

    whole = built(ORDER)
    for _ in range(5):
        shuffled = random.sample(ORDER, len(ORDER))
        assert built(shuffled) == whole
    kinds = [type(step).__name__ for step in build_transform(cfg).transforms]
    assert kinds[1:4] == ["RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip"]
    assert kinds[-5:] == ["ToTensor", "Cutout", "Normalize", "GaussianNoise", "InstanceNormalization"]


def test_every_transform_runs(cfg):
    cfg.INPUT.SIZE = (40, 48)
    image = Image.effect_noise((60, 50), 80).convert("RGB")
    for choice in (*ORDER, "center_crop"):
        cfg.INPUT.TRANSFORMS = (choice,)
        for train in (True, False):
            assert build_transform(cfg, is_train=train)(image).shape == (3, 40, 48)
    with pytest.raises(AssertionError, match="'flip'"):
        build_transform(cfg, choices=("flip",))


def test_what_transforms_do():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (32, 24)
    image = Image.effect_noise((64, 128), 80).convert("RGB")
    cfg.INPUT.TRANSFORMS = ("instance_norm",)
    tensor = build_transform(cfg, is_train=True)(image)
    torch.testing.assert_close(tensor.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(tensor.std((1, 2)), torch.ones(3))
    white = Image.new("RGB", (64, 64), "white")
    cfg.INPUT.TRANSFORMS = ("cutout",)
    for _ in range(5):
        hole = (build_transform(cfg)(white)[0] == 0).sum().item()
        assert 8 * 8 <= hole <= 16 * 16
    cfg.INPUT.TRANSFORMS, cfg.INPUT.GN_STD, cfg.INPUT.GN_MEAN = ("gaussian_noise",), 0.0, 0.5
    means = [build_transform(cfg)(white).mean().item() for _ in range(60)]
    assert set(means) == {1.0, 1.5} and 15 < means.count(1.5) < 45
    cfg.INPUT.TRANSFORMS = ("normalize",)
    black = build_transform(cfg, is_train=False)(Image.new("RGB", (64, 64)))
    torch.testing.assert_close(black[:, 0, 0], -torch.tensor([0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225]))
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None


def test_unknown_data_set_suggests_the_nearest(cfg):
    cfg.DATASET.NAME = "Square"
    with pytest.raises(ValueError, match="Did you mean 'Squares'"):
        build_dataset(cfg)
