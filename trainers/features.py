"""Methods on frozen features: an image goes through the tower once, then something is learned from its feature.

Features are kept on the disk (cilmp/cache.py) for all shots, seeds and methods; DATASET.FEATURE_CACHE_MB is the limit,
0 keeps nothing.

Axes: V views, N images, B batch, C classes, E joint embedding.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import PIL
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cilmp import dicom, images
from cilmp.cache import FeatureCache, default_folder, fingerprint, image_key
from cilmp.clip.model import CLIP
from cilmp.errors import UserError
from cilmp.files import sha256
from cilmp.templates import sentence_features, template_of, text_features
from cilmp.trainers.base import CLIPTrainer
from cilmp.trainers.engine import parallel
from cilmp.trainers.engine.loading import pipeline, through
from cilmp.trainers.method import Method, Task, normalise

AT_ONCE = 2048  # images computed before they are kept


class FrozenTower(Method):
    """A method that reads image features and nothing else of an image: a feature (B, E) may stand in its place."""

    def image(self, image: Tensor) -> Tensor:
        if image.dim() == 2:
            return image
        return super().image(image).to(self.clip.logit_scale.dtype)


class FixedText(FrozenTower):
    """Text features of hand-written sentences, or of those the task brings, averaged; computed once."""

    ensemble: tuple[str, ...] = ()  # sentences besides the data set's own

    def __init__(self, clip: CLIP, task: Task, options):
        super().__init__(clip)
        if task.sentences:
            print(f"Sentences of a class: {len(task.sentences[0])}")
            said = normalise(sentence_features(clip, task.sentences)).mean(1)  # (C, E)
            self.register_buffer("fixed", said[None], persistent=False)
            return
        templates = [*self.ensemble, template_of(task.dataset)]
        print(f"Templates: {templates}")
        self.register_buffer("fixed", text_features(clip, task.classnames, templates)[None], persistent=False)

    def text(self, f: Tensor) -> Tensor:
        return self.fixed  # (1, C, E)


class Features(NamedTuple):
    x: Tensor  # (V, N, E), not normalised, on the CPU; one view, as in a test, or several augmented ones
    label: Tensor  # (N,)


class Rows(Dataset):
    """Features in place of a batch's images; epoch e shows view e mod V."""

    def __init__(self, features: Features):
        self.x, self.label = features
        self.epoch = torch.zeros((), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, i: int) -> dict:
        return {"img": self.x[int(self.epoch) % len(self.x), i], "label": self.label[i]}


class FrozenTrainer(CLIPTrainer):
    """Dassl's loop and test on features.  An option VIEWS is the number of augmented views of a training image."""

    steps = "features"
    keeps = True  # are features kept?  Not where the last bits, which depend on what shared a batch, decide numbers

    @functools.cached_property
    def kept(self) -> FeatureCache:
        made_by = {"tower": fingerprint(self.model.clip.visual), "precision": self.precision, "on": self.device.type}
        made_by |= {f.__name__: sha256(Path(f.__file__)) for f in (images, dicom)}  # how a file becomes pixels
        made_by |= {"pillow": PIL.__version__, "torchvision": torchvision.__version__}
        data = self.cfg.DATASET
        root = Path(data.FEATURE_CACHE).expanduser() if data.FEATURE_CACHE else default_folder()
        return FeatureCache(root, made_by, int(data.FEATURE_CACHE_MB * 2**20) if self.keeps else 0)

    def features(self, items: Sequence, views: int = 0) -> Features:
        """Of Dassl's Datums: seen as in the test, or in that many augmented views, which are those that a training
        from images would see in its first epochs."""
        self.set_model_mode("eval")
        paths, label = [item.impath for item in items], torch.tensor([item.label for item in items])
        if not views:
            return Features(self.encoded(paths, None)[None], label)
        seed = self.cfg.SEED if self.cfg.SEED >= 0 else torch.initial_seed()
        draws = [[(seed, view, i) for i in range(len(paths))] for view in range(views)]
        return Features(torch.stack([self.encoded(paths, drawn) for drawn in draws]), label)

    def encoded(self, paths: Sequence[str], draws: Sequence[tuple[int, ...]] | None) -> Tensor:
        """(N, E).  draws: the key of each image's augmentation."""
        seen = pipeline(self.cfg, augmented=draws is not None)
        keys = [image_key(path, seen, draws[i] if draws else ()) for i, path in enumerate(paths)]
        found = self.kept.find(keys)
        missing = [i for i, key in enumerate(keys) if key not in found]
        size = self.cfg.DATALOADER.TEST.BATCH_SIZE
        for start in range(0, len(missing), AT_ONCE):
            part, rows = missing[start : start + AT_ONCE], []
            for _, row, error in through(
                self.encode,
                [paths[i] for i in part],
                self.cfg,
                self.device,
                size,
                min(self.cfg.DATALOADER.NUM_WORKERS, -(-len(part) // size)),
                "Features",
                [draws[i] for i in part] if draws else None,
            ):
                if row is None:
                    raise UserError(str(error))
                rows.append(row)
            here = [keys[i] for i in part]
            self.kept.add(here, torch.stack(rows))
            found.update(zip(here, rows, strict=True))
        return torch.stack([found[key] for key in keys])

    def encode(self, image: Tensor) -> Tensor:
        with self.autocast():
            return self.model.image(image).float()

    # the loop and the test, on rows

    def before_train(self) -> None:
        old = self.train_loader_x
        rows = Rows(self.features(self.dm.dataset.train_x, self.options.get("VIEWS", 0)))
        same = dict(batch_size=old.batch_size, sampler=old.sampler, drop_last=old.drop_last, generator=old.generator)
        self.train_loader_x = type(old)(rows, **same)
        super().before_train()

    def test(self, split: str | None = None) -> float:
        if not parallel.rank():
            start, data, size = time.time(), self.dm.dataset, self.cfg.DATALOADER.TEST.BATCH_SIZE
            if (split or self.cfg.TEST.SPLIT) == "val" and data.val:
                self.val_loader = DataLoader(Rows(self.features(data.val)), size)
            else:
                self.test_loader = DataLoader(Rows(self.features(data.test)), size)
            self.seconds["test"] = self.seconds.get("test", 0.0) + time.time() - start
        return super().test(split)


class FeatureTrainer(FrozenTrainer):
    """A subclass says what `fit` does with the features, at once and without Dassl's loop."""

    steps = ""

    def fit(self, train: Features, val: Features | None) -> None:
        """Set what the method keeps.  val, as in a test, is None where the data set has no validation images."""
        raise NotImplementedError

    def train(self) -> None:
        """Fit and test.  A run that was killed in its test goes on there."""
        start, data = time.time(), self.dm.dataset
        if not self.resume_model_if_exist(self.cfg.RESUME or self.output_dir):
            if not data.val:
                print("No validation set: what would be chosen on it is chosen without it (see the method)")
            train = self.features(data.train_x, self.options.get("VIEWS", 0))
            self.fit(train, self.features(data.val) if data.val else None)
            Path(self.output_dir).mkdir(parents=True, exist_ok=True)
            self.save_model(self.max_epoch - 1, self.output_dir)
        self.seconds["train"] = time.time() - start
        if not self.cfg.TEST.NO_TEST:
            self.test()
