"""From a configuration to loaders that yield batches as dictionaries."""

import random

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torchvision import transforms as T

from dassl.data.datasets.build import build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.utils.errors import SettingError
from dassl.utils.tools import read_image


class Loader(DataLoader):
    """A DataLoader whose workers live on and yet start each epoch from a fresh seed of the main process.

    What an epoch draws thus depends on the main random state at its start alone, which a checkpoint holds: a resumed
    run sees the images that the uninterrupted one would have seen.
    """

    def __iter__(self):
        seed = torch.empty((), dtype=torch.int64).random_()
        if hasattr(self.dataset, "epoch_seed"):
            self.dataset.epoch_seed.copy_(seed)
        return super().__iter__()


def build_data_loader(
    cfg,
    sampler_type="SequentialSampler",
    data_source=None,
    batch_size=64,
    n_domain=0,
    n_ins=2,
    tfm=None,
    is_train=True,
    dataset_wrapper=None,
) -> DataLoader:
    """Training drops a last short batch unless it is the only one; a test keeps everything."""
    sampler = build_sampler(sampler_type, cfg, data_source, batch_size, n_domain, n_ins)
    if not len(sampler):
        raise SettingError(f"Nothing to load: {len(data_source)} items make no batch of {batch_size}")
    drop_last = is_train and len(data_source) >= batch_size
    batches = len(sampler) // batch_size if drop_last else -(-len(sampler) // batch_size)
    workers = min(cfg.DATALOADER.NUM_WORKERS, batches)  # another one would have nothing to do
    options = {}
    if is_train:
        options["generator"] = torch.Generator().manual_seed(torch.initial_seed())  # see Loader
        options["persistent_workers"] = workers > 0
    return (Loader if is_train else DataLoader)(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        **options,
    )


class DataManager:
    """The data set of a configuration, its loaders and class names."""

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        dataset = build_dataset(cfg)
        tfm_train = build_transform(cfg, is_train=True) if custom_tfm_train is None else custom_tfm_train
        tfm_test = build_transform(cfg, is_train=False) if custom_tfm_test is None else custom_tfm_test

        def loader(items, options, is_train):
            return build_data_loader(
                cfg,
                sampler_type=options.SAMPLER,
                data_source=items,
                batch_size=options.BATCH_SIZE,
                n_domain=options.get("N_DOMAIN", 0),
                n_ins=options.get("N_INS", 0),
                tfm=tfm_train if is_train else tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        options = cfg.DATALOADER
        self.train_loader_x = loader(dataset.train_x, options.TRAIN_X, True)
        self.train_loader_u = None
        if dataset.train_u:
            unlabelled = options.TRAIN_X if options.TRAIN_U.SAME_AS_X else options.TRAIN_U
            self.train_loader_u = loader(dataset.train_u, unlabelled, True)
        self.val_loader = loader(dataset.val, options.TEST, False) if dataset.val else None
        self.test_loader = loader(dataset.test, options.TEST, False)
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    def show_dataset_summary(self, cfg) -> None:
        rows = [["Dataset", cfg.DATASET.NAME]]
        for side in ("SOURCE", "TARGET"):
            if domains := cfg.DATASET[f"{side}_DOMAINS"]:
                rows.append([side.capitalize(), ", ".join(map(str, domains))])
        rows.append(["# classes", f"{self.num_classes:,}"])
        for split in ("train_x", "train_u", "val", "test"):
            if items := getattr(self.dataset, split):
                rows.append([f"# {split}", f"{len(items):,}"])
        print(tabulate(rows))


class DatasetWrapper(Dataset):
    """Reads an image and transforms it: a dictionary of img, label, domain, impath, index (and img0)."""

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform  # several in a list or tuple yield img, img2, img3 ...
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise SettingError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm} and there is no transform")
        plain = [T.Resize(cfg.INPUT.SIZE, interpolation=INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(plain)
        self.epoch_seed = torch.zeros((), dtype=torch.int64).share_memory_()  # of this epoch, see Loader
        self.seeded = 0

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict:
        if self.is_train and get_worker_info() is not None:
            self.follow_seed(get_worker_info().id)
        item = self.data_source[idx]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        img0 = read_image(item.impath)
        if self.transform is None:
            output["img"] = img0
        elif isinstance(self.transform, list | tuple):
            for i, transform in enumerate(self.transform):
                output[f"img{i + 1}" if i else "img"] = self._transform_image(transform, img0)
        else:
            output["img"] = self._transform_image(self.transform, img0)
        if self.return_img0:
            output["img0"] = self.to_tensor(img0)
        return output

    def _transform_image(self, tfm, img0):
        """One view of an image, or a list of K_TRANSFORMS; subclasses of third parties call it."""
        images = [tfm(img0) for _ in range(self.k_tfm)]
        return images if self.k_tfm > 1 else images[0]

    def follow_seed(self, worker: int) -> None:
        """At the start of an epoch, as a new worker is seeded by PyTorch."""
        seed = self.epoch_seed.item()
        if seed != self.seeded:
            self.seeded = seed
            random.seed(seed + worker)
            np.random.seed((seed + worker) % 2**32)
            torch.manual_seed(seed + worker)
