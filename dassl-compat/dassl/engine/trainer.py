"""Trainers built from a configuration: data, model, the loop over batches, the test."""

import datetime
import os.path as osp
import time
from numbers import Number

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.engine.base import TrainerBase
from dassl.engine.writer import SummaryWriter  # noqa: F401  third parties import it from here
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import AverageMeter, MetricMeter, count_num_param, load_pretrained_weights
from dassl.utils.checkpoints import BEST, load_run
from dassl.utils.errors import DamagedCheckpoint
from dassl.utils.tools import check_availability


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
            self.best_result = self.best_so_far(directory)
        self.init_writer(osp.join(self.output_dir, "tensorboard"))
        self.time_start = time.time()  # to remember how long it took

    def best_so_far(self, directory: str) -> float:
        """The validation result of a run's best model."""
        best = osp.join(directory, self.get_model_names()[0], BEST)
        try:
            return load_run(best)["val_result"]
        except (DamagedCheckpoint, FileNotFoundError) as error:
            print(f"{error}: the next epoch is the best so far")
            return -float("inf")

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
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
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

    # one epoch

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


class TrainerXU(SimpleTrainer):
    """Labelled and unlabelled images; TRAIN.COUNT_ITER says which of them make an epoch."""

    def run_epoch(self) -> None:
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        check_availability(self.cfg.TRAIN.COUNT_ITER, lengths, "TRAIN.COUNT_ITER")
        # both start before the first batch: an equal seed then gives Dassl's batches
        both = Endless(self.train_loader_x), Endless(self.train_loader_u)
        self.run_batches(zip(*both, strict=False), lengths[self.cfg.TRAIN.COUNT_ITER])

    def parse_batch_train(self, batch_x, batch_u):
        image, label = self.parse_batch_test(batch_x)
        return image, label, batch_u["img"].to(self.device, non_blocking=True)


class TrainerX(SimpleTrainer):
    """Labelled images only."""

    def run_epoch(self) -> None:
        self.run_batches(((batch,) for batch in self.train_loader_x), len(self.train_loader_x))

    def parse_batch_train(self, batch):
        return (*self.parse_batch_test(batch), batch["domain"].to(self.device, non_blocking=True))


class Endless:
    """A loader's batches, from its start again behind its end."""

    def __init__(self, loader):
        self.loader, self.batches = loader, iter(loader)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            return next(self.batches)
