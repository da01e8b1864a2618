"""The training loop: what a trainer registers is put in train or eval mode, stepped, saved and resumed."""

import datetime
import os.path as osp
import time
from collections import OrderedDict
from numbers import Number

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.engine.writer import SummaryWriter
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.checkpoints import last_common
from dassl.utils.modules import unwrap
from dassl.utils.seeds import random_state, set_random_state


class SimpleNet(nn.Module):
    """A backbone, an optional head, and a linear classifier where there are classes."""

    def __init__(self, cfg, model_cfg, num_classes: int, **kwargs):
        super().__init__()
        verbose, backbone, head = cfg.VERBOSE, model_cfg.BACKBONE, model_cfg.HEAD
        self.backbone = build_backbone(backbone.NAME, verbose=verbose, pretrained=backbone.PRETRAINED, **kwargs)
        self._fdim = self.backbone.out_features
        self.head = None
        if head.NAME and head.HIDDEN_LAYERS:
            options = dict(hidden_layers=head.HIDDEN_LAYERS, activation=head.ACTIVATION, bn=head.BN)
            options |= dict(in_features=self._fdim, dropout=head.DROPOUT)
            self.head = build_head(head.NAME, verbose=verbose, **options, **kwargs)
            self._fdim = self.head.out_features
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    @property
    def fdim(self) -> int:
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False):
        f = self.backbone(x)
        if self.head is not None:
            f = self.head(f)
        if self.classifier is None:
            return f
        y = self.classifier(f)
        return (y, f) if return_feature else y


class TrainerBase:
    """Registered models with their optimisers and schedules, and the loop over epochs."""

    def __init__(self):
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        self._writer = None
        self._anomaly: Tensor | None = None  # was any loss on a GPU not finite?

    def register_model(self, name: str = "model", model=None, optim=None, sched=None) -> None:
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() comes after super().__init__()")
        if name in self._models:
            raise AssertionError(f"a model named '{name}' is registered already")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names=None) -> list[str]:
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise AssertionError(f"no model is registered as '{name}', only {list(self._models)}")
        return names

    # checkpoints

    def save_model(self, epoch: int, directory: str, is_best: bool = False, val_result=None, model_name="") -> None:
        """Write <directory>/<name>/model.pth.tar-<epoch + 1> for every registered model."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim.state_dict() if optim is not None else None,
                "scheduler": sched.state_dict() if sched is not None else None,
                "val_result": None if val_result is None else float(val_result),
                "random": random_state(),
            }
            save_checkpoint(state, osp.join(directory, name), is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from what was saved last -> the first epoch to train."""
        names = self.get_model_names()
        if not names or not all(osp.isfile(osp.join(directory, name, "checkpoint")) for name in names):
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        file = last_common([osp.join(directory, name) for name in names])
        for name in names:
            parts = self._models[name], self._optims[name], self._scheds[name]
            checkpoint = resume_from_checkpoint(osp.join(directory, name), *parts, file=file, whole=True)
        if checkpoint.get("random"):
            set_random_state(checkpoint["random"])
        return checkpoint["epoch"]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Weights of an epoch, or of the best one on validation, from a run's folder."""
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = osp.join(directory, name, file)
            checkpoint = load_checkpoint(path)
            result = checkpoint.get("val_result")
            known = "" if result is None else f", val_result = {result:.1f}"
            print(f"Load {path} to {name} (epoch = {checkpoint['epoch']}{known})")
            unwrap(self._models[name]).load_state_dict(checkpoint["state_dict"])

    # one step

    def set_model_mode(self, mode: str = "train", names=None) -> None:
        if mode not in ("train", "eval", "test"):
            raise KeyError(f"the mode of a model is train, eval or test, not '{mode}'")
        for name in self.get_model_names(names):
            if self._models[name] is not None:
                self._models[name].train(mode == "train")

    def update_lr(self, names=None) -> None:
        """One epoch further in the schedules; a trainer calls it behind the last batch of an epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None) -> float:
        optim = self._optims[self.get_model_names(names)[0]]
        return optim.param_groups[0]["lr"] if optim is not None else 0.0

    def detect_anomaly(self, loss: Tensor) -> None:
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def watch(self, loss: Tensor) -> None:
        """detect_anomaly() at once on a CPU; on a GPU, which would have to be waited for, at the next printed line."""
        if loss.device.type == "cpu":
            self.detect_anomaly(loss)
            return
        bad = ~torch.isfinite(loss.detach()).all()
        self._anomaly = bad if self._anomaly is None else self._anomaly | bad

    def check_watched(self) -> None:
        if self._anomaly is not None and self._anomaly.item():
            raise FloatingPointError("Loss is infinite or NaN!")

    def model_zero_grad(self, names=None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        self.watch(loss)
        loss.backward()

    def model_update(self, names=None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: Tensor, names=None) -> None:
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(self, loss_a: Tensor, loss_b: Tensor, lambda_: float = 1, names=None) -> None:
        """A step along loss_a that does not work against loss_b (ProGrad, Zhu et al., ICCV 2023, eq. 5).

        Where the gradients of a parameter conflict, the part of loss_a's along loss_b's is taken off, times lambda_.
        """
        names = self.get_model_names(names)
        parameters = [p for name in names for p in self._models[name].parameters() if p.requires_grad]
        self.model_zero_grad(names)
        self.watch(loss_a)
        self.watch(loss_b)
        general = torch.autograd.grad(loss_b, parameters, retain_graph=True, allow_unused=True)
        loss_a.backward()
        for parameter, b in zip(parameters, general, strict=True):
            if b is None or parameter.grad is None:
                continue
            b = b / torch.linalg.norm(b)
            along = (parameter.grad * b).sum()
            parameter.grad -= lambda_ * torch.where(along < 0, along * b, torch.zeros_like(b))
        self.model_update(names)

    # the loop

    def init_writer(self, log_dir: str) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value, global_step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def train(self, start_epoch: int, max_epoch: int) -> None:
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        pass

    def after_train(self) -> None:
        pass

    def before_epoch(self) -> None:
        pass

    def after_epoch(self) -> None:
        pass

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError


class SimpleTrainer(TrainerBase):
    """A trainer built from a configuration: data, model, evaluator; subclasses override what differs."""

    def __init__(self, cfg):
        super().__init__()
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -float("inf")

    def check_cfg(self, cfg) -> None:
        """A place to refuse a configuration."""

    def build_data_loader(self) -> None:
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        cfg = self.cfg
        print("Building model")
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        if self.device.type == "cuda" and torch.cuda.device_count() > 1:
            print(f"Detected {torch.cuda.device_count()} GPUs (use nn.DataParallel)")
            self.model = nn.DataParallel(self.model)

    def train(self) -> None:
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        directory = self.cfg.RESUME or self.output_dir
        self.start_epoch = self.resume_model_if_exist(directory)
        if self.start_epoch and self.cfg.TEST.FINAL_MODEL == "best_val":
            best = osp.join(directory, self.get_model_names()[0], "model-best.pth.tar")
            if osp.exists(best):
                self.best_result = load_checkpoint(best)["val_result"]
        self.init_writer(osp.join(self.output_dir, "tensorboard"))
        self.time_start = time.time()  # to remember how long it took

    def after_train(self) -> None:
        print("Finish training\nFinished training")  # parsers of results wait for the one or for the other
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    def after_epoch(self) -> None:
        self.check_watched()
        last = self.epoch + 1 == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar")
        if last or (frequency > 0 and (self.epoch + 1) % frequency == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on val or test -> the first of the evaluator's results."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            loader = self.val_loader
        else:
            if split == "val":
                print("There is no validation set")
            split, loader = "test", self.test_loader
        print(f"Evaluate on the *{split}* set")
        for batch in tqdm(loader):
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            if isinstance(value, Number):
                self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch) -> tuple[Tensor, Tensor]:
        return tuple(batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))


class TrainerXU(SimpleTrainer):
    """Labelled and unlabelled images; TRAIN.COUNT_ITER says which of them make an epoch."""

    def run_epoch(self) -> None:
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise ValueError(f"TRAIN.COUNT_ITER: '{self.cfg.TRAIN.COUNT_ITER}' is not among {list(lengths)}")
        self.run_batches(
            zip(endless(self.train_loader_x), endless(self.train_loader_u), strict=False),
            lengths[self.cfg.TRAIN.COUNT_ITER],
        )

    def run_batches(self, batches, count: int) -> None:
        """An epoch of `count` batches; what reaches forward_backward() are their parts."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = count
        end = time.time()
        for self.batch_idx, parts in zip(range(count), batches, strict=False):
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(*parts))
            batch_time.update(time.time() - end)
            frequency = self.cfg.TRAIN.PRINT_FREQ
            if (self.batch_idx + 1) % frequency == 0 or count < frequency:
                self.check_watched()
                self.show_progress(losses, batch_time, data_time)
            end = time.time()

    def show_progress(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        left = self.num_batches - self.batch_idx - 1 + (self.max_epoch - self.epoch - 1) * self.num_batches
        lr = self.get_current_lr()
        print(
            f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{self.batch_idx + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{losses} lr {lr:.4e} eta {datetime.timedelta(seconds=int(batch_time.avg * left))}",
            flush=True,
        )
        step = self.epoch * self.num_batches + self.batch_idx
        if self._writer is not None:
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", lr, step)

    def parse_batch_train(self, batch_x, batch_u):
        image, label = self.parse_batch_test(batch_x)
        return image, label, batch_u["img"].to(self.device, non_blocking=True)


class TrainerX(TrainerXU):
    """Labelled images only."""

    def run_epoch(self) -> None:
        self.run_batches(((batch,) for batch in self.train_loader_x), len(self.train_loader_x))

    def parse_batch_train(self, batch):
        return (*self.parse_batch_test(batch), batch["domain"].to(self.device, non_blocking=True))


def endless(loader):
    while True:
        yield from loader
