"""What is registered with a trainer is put in train or eval mode, stepped, saved and resumed."""

import os.path as osp
from collections import OrderedDict

import torch
from torch import Tensor

from dassl.engine.writer import SummaryWriter
from dassl.utils import save_checkpoint, tolist_if_not
from dassl.utils.checkpoints import BEST, last_whole, load_run, resume_from
from dassl.utils.modules import unwrap
from dassl.utils.seeds import random_state, set_random_state


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
        found = last_whole([osp.join(directory, name) for name in names])
        if not found:
            print("No whole checkpoint found, train from scratch")
            return 0
        for name, (path, checkpoint) in zip(names, found, strict=True):
            resume_from(path, checkpoint, self._models[name], self._optims[name], self._scheds[name])
        if checkpoint.get("random"):
            set_random_state(checkpoint["random"])
        return checkpoint["epoch"]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Weights of an epoch, or of the best one on validation, from a run's folder."""
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        file = BEST if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = osp.join(directory, name, file)
            checkpoint = load_run(path)
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
