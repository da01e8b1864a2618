"""Dassl's loop around a Method: CLIP frozen, the losses summed, the prompts saved.

A trainer is a subclass that names its method, its checkpoint's folder and its options (`trainers/coop.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from cilmp import system
from cilmp.clip.backbones import load_clip, pixels_of
from cilmp.clip.model import CLIP
from cilmp.devices import choose, keep_memory
from cilmp.errors import UserError, brief
from cilmp.trainers.engine import checkpoints, crops, graph, parallel, pixels, provenance
from cilmp.trainers.engine.config import classes_of
from cilmp.trainers.engine.loading import Images
from cilmp.trainers.engine.ranges import Range
from cilmp.trainers.engine.workers import Numbers, Spread, as_bytes
from cilmp.trainers.method import Method, Task
from dassl.data import DataManager
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import set_random_seed


class CLIPTrainer(TrainerX):
    method: type[Method]
    folder = "prompt_learner"  # the registered name, which is the checkpoint's folder: as the reference trainers'
    steps = "images"  # what a training step reads: images, features, or nothing where there are no steps
    defaults: dict = {}  # this trainer's block of cfg.TRAINER
    ranges: dict[str, Range] = {}  # what its options may be, beyond their types
    alias: Sequence[str] = ()  # blocks of a reference's configuration it answers to as well, e.g. TRAINER.COOP
    means: dict[str, dict[str, str]] = {}  # of a value there, where it is another one here: {option: {theirs: ours}}
    unread: Sequence[str] = ()  # options there that are none here

    # do the losses of a step depend on tensors alone, so that it may be replayed?  None: those of this toolbox do
    steady: bool | None = None

    numbers: Numbers | None = None  # of the images that workers leave as bytes
    replayed: graph.Replayed | None = None  # the steps of a training on one GPU
    cropper: crops.Cropper | None = None  # of the training images, where they are augmented on the device

    def __init__(self, cfg, classnames: Sequence[str] | None = None, device: str = ""):
        """classnames: to classify images without a data set.  device: '' is a GPU where there is one."""
        self.classnames, self.device_name = classnames, device
        super().__init__(cfg)

    @classmethod
    def build(cls, clip: CLIP, task: Task, **options) -> Method:
        """The method without a configuration: this trainer's defaults and what differs from them."""
        return cls.method(clip, task, CfgNode(cls.defaults | options))

    # construction, in Dassl's order

    def build_data_loader(self) -> None:
        backbone = self.cfg.MODEL.BACKBONE
        self.cfg = pixels.follow(self.cfg, pixels_of(backbone.NAME, backbone.get("PATH", "")))
        # Dassl, whose constructor has just chosen a device, knows CUDA and the CPU alone
        self.device = choose(self.device_name, accelerate=self.cfg.USE_CUDA)
        keep_memory(self.device)
        if self.classnames is None:
            self.crops = self.steps == "images" and crops.wanted(self.cfg, self.parses)
            dm = DataManager(self.cfg, dataset_wrapper=Images)
            self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
            self.val_loader, self.test_loader = map(self.spread, (dm.val_loader, dm.test_loader))
            self.num_source_domains = dm.num_source_domains
            self.require_validation()
            self.classnames = list(dm.dataset.classnames)
        else:
            names = dict(enumerate(self.classnames))
            dm = SimpleNamespace(num_classes=len(names), lab2cname=names)
        self.dm, self.num_classes, self.lab2cname = dm, dm.num_classes, dm.lab2cname

    def spread(self, loader: DataLoader | None) -> DataLoader | Spread | None:
        """With every batch read by as many workers as there are cores for; one that reads no files as it is."""
        workers = min(self.cfg.DATALOADER.NUM_WORKERS, system.cores())
        if loader is None or isinstance(loader, Spread) or not loader.num_workers or workers < 2:
            return loader
        dataset, numbers = loader.dataset, None
        if self.parses:
            dataset, numbers = as_bytes(dataset)
            self.numbers = numbers or self.numbers
        return Spread(loader, workers, dataset)

    @property
    def parses(self) -> bool:
        """Are batches parsed here?  A subclass that does it itself gets images as numbers."""
        own, parts = type(self), ("parse_batch_train", "parse_batch_test")
        return all(getattr(own, part) is getattr(CLIPTrainer, part) for part in parts)

    def require_validation(self) -> None:
        """Where it is asked for; Dassl would let the test images stand in for it."""
        for key, value in (("SPLIT", "val"), ("FINAL_MODEL", "best_val")):
            if self.val_loader is None and self.cfg.TEST[key] == value:
                raise UserError(
                    f"TEST.{key} is {value}, and {self.cfg.DATASET.NAME} has no validation images here: use a split "
                    f"file with a list 'val', or leave TEST.{key} out."
                )

    def build_model(self) -> None:
        self.seconds: dict[str, float] = {}
        backbone, size = self.cfg.MODEL.BACKBONE, self.cfg.INPUT.SIZE
        self.options = self.cfg.TRAINER[type(self).__name__.upper()] if self.defaults else CfgNode()
        self.precision = self.settle_precision(self.options.get("PREC", "fp32"))
        print(f"Loading CLIP (backbone: {backbone.get('PATH', '') or backbone.NAME}, precision: {self.precision})")
        source = backbone.NAME, backbone.get("PATH", ""), self.precision, backbone.get("ACTIVATION", "")
        clip = load_clip(*source).to(self.device)
        if tuple(size) != (clip.resolution,) * 2:
            raise UserError(
                f"INPUT.SIZE is {tuple(size)} and the backbone reads {clip.resolution} x {clip.resolution} pixels: set "
                f'INPUT.SIZE "({clip.resolution}, {clip.resolution})".'
            )
        if self.method.vit_only and not hasattr(clip.visual, "transformer"):
            raise UserError(f"{type(self).__name__} changes the layers of the image tower: it needs a ViT CLIP.")
        self.model = self.method(clip, self.task(), self.options).to(self.device)
        self.model.norm_prompts = self.cfg.MODEL.BACKBONE.get("NORM_PROMPTS", True)
        self.model.literal = self.options.get("FORWARD", "fast") == "literal"
        if self.cfg.MODEL.INIT_WEIGHTS:
            self.load_weights(Path(self.cfg.MODEL.INIT_WEIGHTS))
        self.scaler, self.step = None, self.model.losses
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            if self.model.state_dict():  # found without a gradient, and kept
                self.register_model(self.folder, self.model)
            return
        print(f"Trained parameters: {sum(p.numel() for p in trained):,}")
        self.optim = build_optimizer(trained, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(self.folder, self.model, self.optim, self.sched)
        if parallel.size() > 1:
            self.step = parallel.wrap(self.model)
        if self.precision == "amp" and self.device.type == "cuda":
            self.scaler = torch.cuda.amp.GradScaler() if torch.__version__ < "2.3" else torch.amp.GradScaler("cuda")

    def task(self) -> Task:
        return Task(list(self.classnames), classes_of(self.cfg))

    def settle_precision(self, precision: str) -> str:
        devices = {"fp16": ("cuda",), "amp": ("cuda", "cpu")}.get(precision, (self.device.type,))
        if self.device.type not in devices:
            print(f"PREC {precision} needs {' or '.join(devices)}: this run, on {self.device.type}, uses fp32")
            return "fp32"
        return precision

    def autocast(self) -> AbstractContextManager:
        if self.precision != "amp":
            return nullcontext()
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype)

    # one step

    def parse_batch_test(self, batch: Mapping) -> tuple[Tensor, Tensor]:
        image, label = super().parse_batch_test(batch)
        return self.numbers(image) if self.numbers else image, label

    def parse_batch_train(self, batch: Mapping) -> tuple[Tensor, Tensor]:
        if self.cropper:
            batch = {**batch, "img": self.cropper(batch["img"])}
        return self.parse_batch_test(batch)  # Dassl's own adds the domain

    def forward_backward(self, batch: Mapping) -> dict:
        image, label = self.parse_batch_train(batch)
        terms, logits = self.replay(image, label) if self.replayed else self.launch(image, label)
        if self.batch_idx + 1 == self.num_batches:
            self.end_of_epoch()
            self.update_lr()
        loss = sum(terms.values())
        shown = terms if len(terms) > 1 else {}
        return {"loss": loss, "acc": compute_accuracy(logits, label)[0].squeeze(), **shown}

    def launch(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """A step -> its losses and logits (B, C)."""
        with self.autocast():
            losses, logits = self.step(image, label)
        self.update(losses)
        return {name: value.detach() for name, value in losses.items()}, logits.detach()

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Backward and one step of the optimiser."""
        self.model_zero_grad()
        self.backward(losses)
        self.advance()

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Fill the gradients, scaled where there is a scaler."""
        loss = sum(losses.values())
        if self.scaler is None:
            self.model_backward(loss)
        else:
            self.scaler.scale(loss).backward()

    def advance(self) -> None:
        """One step of the optimiser, along the gradients that are there."""
        if self.scaler is None:
            self.model_update()
        else:
            self.scaler.step(self.optim)
            self.scaler.update()

    # the same, its forward and backward replayed from a graph

    def replay(self, image: Tensor, label: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        if self.batch_idx == 0:
            self.replayed.look()
        terms, logits = self.replayed(image, label)
        if self.scaler is None:
            self.watch(sum(terms.values()))
        self.advance()
        return terms, logits

    def gradients(self, image: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What is captured: the losses and logits (B, C) of a batch, and in the parameters their gradients."""
        self.model_zero_grad()
        with self.autocast():
            losses, logits = self.step(image, label)
        self.backward(losses)
        return {name: value.detach() for name, value in losses.items()}, logits.detach()

    def watch(self, loss: Tensor) -> None:
        if not (loss.is_cuda and torch.cuda.is_current_stream_capturing()):  # that loss is watched at each replay
            super().watch(loss)

    def end_of_epoch(self) -> None:
        """After the last step of an epoch, before its checkpoint."""

    # the loop, on one or several GPUs

    def before_train(self) -> None:
        super().before_train()
        if parallel.size() > 1:
            seed = max(self.cfg.SEED, 0)
            self.train_loader_x = parallel.share(self.train_loader_x, seed)
            set_random_seed(seed + parallel.rank())  # each process its own augmentation and dropout
        if self.crops and not self.cropper:
            self.train_loader_x, self.cropper = crops.on_device(self.train_loader_x, self.device)
        self.train_loader_x = self.spread(self.train_loader_x)
        steps = (self.max_epoch - self.start_epoch) * len(self.train_loader_x)
        steady = graph.of_this_house(self) if self.steady is None else self.steady
        if graph.wanted(self.cfg.TRAIN.get("CUDA_GRAPH", "auto"), self.device, steps, steady):
            self.replayed = graph.Replayed(self.gradients, self.model)

    def before_epoch(self) -> None:
        self.train_loader_x.dataset.epoch.fill_(self.epoch)
        if parallel.size() > 1:
            self.train_loader_x.sampler.set_epoch(self.epoch)

    def train(self) -> None:
        start = time.time()
        super().train()
        self.seconds["train"] = time.time() - start - self.seconds.get("test", 0.0)

    def after_train(self) -> None:
        self.replayed = None  # a graph would keep its memory through the test
        super().after_train()

    def test(self, split: str | None = None) -> float:
        if parallel.rank():
            return 0.0
        start = time.time()
        result = super().test(split)
        self.seconds["test"] = self.seconds.get("test", 0.0) + time.time() - start
        return result

    def model_inference(self, image: Tensor) -> Tensor:
        """(B, 3, R, R) -> logits (B, C)."""
        with self.autocast():
            return self.model.infer(image)

    # checkpoints

    def save_model(self, *args, **kwargs) -> None:
        if parallel.rank() == 0:
            if not all(torch.isfinite(value).all() for value in self.model.state_dict().values()):
                raise FloatingPointError("What was learned is infinite or NaN!")
            super().save_model(*args, **kwargs)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts, the reference implementation's included, onto this run's classes."""
        if not directory or not self._models:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        trained = provenance.classnames_in(Path(directory))
        bound = self.model.class_bound or classes_of(self.cfg) != self.cfg.DATASET.NAME
        if bound and trained and trained != list(self.classnames):
            raise UserError(
                f"What {type(self).__name__} learned in {directory} is of the classes {brief(trained)}, and the "
                f"classes here are {brief(list(self.classnames))}: test it on its own."
            )
        self.load_weights(checkpoints.locate(Path(directory) / self.folder, epoch))

    def unpacked(self, saved: dict, path: Path) -> dict:
        """A checkpoint's content; a reference's file that is no state dict is made one here."""
        return saved

    def load_weights(self, path: Path) -> None:
        """What is trained, from one checkpoint; UserError where it is not there or does not fit."""
        if not self.model.state_dict():
            raise UserError(f"{type(self).__name__} trains nothing: leave MODEL.INIT_WEIGHTS empty.")
        saved = checkpoints.read(path, self.unpacked)
        self.model.fit_sizes(saved["state_dict"])
        wanted = self.model.state_dict()
        fitting = checkpoints.fit(path, saved["state_dict"], wanted, self.model.renames, type(self).__name__)
        print(f"Loading weights to {self.folder} from {path} (epoch = {saved.get('epoch')})")
        self.model.load_state_dict(fitting)
        self.model.cached_text = None
