"""A training step of the reference implementations beside ours: seconds and extra memory of forward, loss and backward.

    python benchmarks/peers.py --coop FOLDER --maple FOLDER --promptsrc FOLDER --cilmp FOLDER --out benchmarks/results

Each folder is a checkout of yours; its code runs, unchanged, in a process of its own: its own trainer builds the model
and takes the step, with our Dassl, the options of ours, and an optimiser that does nothing.  Ours has a second process,
as benchmarks/step.py builds it, and the two take turns step by step, so that a slow minute hits both alike.
ViT-B/16 with the same random weights on both sides, fp32, states 32 x 4096; eager on a GPU too.  --tiny is a toy that
tests only that the program runs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from rows import save
from step import STATES, TOY_STATES, build, classnames, memory, synchronise, timed, toy, training, vit_b16
from yacs.config import CfgNode

import dassl.engine
from cilmp.devices import keep_memory
from cilmp.errors import UserError, exit_on_user_error
from cilmp.trainers.engine.report import commit
from dassl.config import get_cfg_default
from dassl.utils import Registry

CHECKOUTS = {  # flag: repository, where in it the code lies, trainers
    "coop": ("KaiyangZhou/CoOp", "", ("CoOp", "CoCoOp")),
    "maple": ("muzairkhattak/multimodal-prompt-learning", "", ("MaPLe",)),
    "promptsrc": ("muzairkhattak/PromptSRC", "", ("PromptSRC",)),
    "cilmp": ("usr922/cilmp", "cilmp", ("CILMP",)),
}


class Setting(NamedTuple):
    trainer: str
    checkout: Path  # of the reference
    inside: str  # where in it the code lies
    classes: int
    batch: int
    device: torch.device
    tiny: bool

    def clip(self):
        return toy() if self.tiny else vit_b16()

    def states(self) -> tuple[int, int]:
        return TOY_STATES if self.tiny else STATES

    def images(self, resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, R, R) and (B,)"""
        torch.manual_seed(1)
        image = torch.randn(self.batch, 3, resolution, resolution, device=self.device)
        return image, torch.randint(self.classes, (self.batch,), device=self.device)


def ours(setting: Setting) -> tuple[Callable, torch.nn.Module]:
    """The step of our method, and its model."""
    keep_memory(setting.device)  # as a trainer does
    clip = setting.clip().to(setting.device)
    model = build(setting.trainer, clip, classnames(setting.classes), setting.states()).to(setting.device).train()
    return training(model, *setting.images(clip.resolution), contextlib.nullcontext), model


def theirs(setting: Setting) -> tuple[Callable, torch.nn.Module]:
    """The step of the reference's trainer, and its model.  It takes this process for itself."""
    kind = dassl.engine.TRAINER_REGISTRY.get(setting.trainer)  # ours, for its options
    clip = setting.clip()
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE = "ViT-B/16", (clip.resolution,) * 2
    block = (*kind.alias, f"TRAINER.{setting.trainer.upper()}")[0].removeprefix("TRAINER.")
    cfg.TRAINER[block] = CfgNode(kind.defaults | {"CTX_INIT": "a photo of a", "PREC": "fp32"})

    stand_in(setting, {name.removeprefix("text."): value for name, value in clip.state_dict().items()})
    dassl.engine.TRAINER_REGISTRY = Registry("TRAINER")  # theirs bear the names of ours
    for name in [name for name in sys.modules if name.split(".")[0] in ("clip", "trainers")]:
        del sys.modules[name]  # OpenAI's package, where ours has loaded it, has the name of theirs
    sys.path.insert(0, str(setting.checkout / setting.inside))
    importlib.import_module("clip.clip")._download = lambda *_, **__: ""
    module = importlib.import_module(f"trainers.{setting.trainer.lower()}")

    reference = getattr(module, setting.trainer)
    trainer = reference.__new__(reference)  # without data
    dassl.engine.TrainerBase.__init__(trainer)
    trainer.cfg, trainer.device, trainer.batch_idx, trainer.num_batches = cfg, setting.device, 0, 2
    trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=classnames(setting.classes)))
    trainer.build_model()
    trainer.set_model_mode("train")
    trainer.optim.step = lambda *_, **__: None
    image, label = setting.images(clip.resolution)
    return lambda: trainer.forward_backward({"img": image, "label": label}), trainer.model


def stand_in(setting: Setting, weights: dict[str, torch.Tensor]) -> None:
    """What a reference takes for granted, for this process: downloaded files, a GPU, half precision.

    Nothing is read from disk: CLIP's archive has the given weights, an LLM's states of a class are random.  On a CPU
    `.cuda()` leaves things where they are.  Halves are floats, for MaPLe, PromptSRC and CILMP write some into their
    fp32 model, which then does not run.
    """
    archive = SimpleNamespace(state_dict=lambda: dict(weights), eval=lambda: archive)
    torch.jit.load = lambda *_, **__: archive
    torch.load = lambda *_, **__: torch.randn(setting.states())
    torch.float16 = torch.float32
    absent = ["half"] + (["cuda"] if setting.device.type == "cpu" else [])
    for kind in (torch.Tensor, torch.nn.Module):
        for name in absent:
            setattr(kind, name, lambda self, *_, **__: self)


def serve(pipe: Connection, make: Callable, setting: Setting) -> None:
    """A process: answers what it is asked until it is ended."""
    with contextlib.redirect_stdout(io.StringIO()):  # references print what they build
        step, model = make(setting)
        while True:
            asked, answer = pipe.recv(), None
            if asked == "step":
                step()
                synchronise(setting.device)
            elif asked == "memory":
                answer = memory(step, setting.device)
            elif asked == "parameters":
                answer = sum(p.numel() for p in model.parameters() if p.requires_grad)
            pipe.send(answer)


class Side:
    """A process with one of the two implementations."""

    def __init__(self, make: Callable, setting: Setting):
        context = multiprocessing.get_context("spawn")
        self.what = f"{setting.trainer} of {setting.checkout}" if make is theirs else f"Our {setting.trainer}"
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, make, setting), daemon=True)
        self.process.start()
        other.close()  # here, so that its end there is seen

    def ask(self, what: str) -> float | None:
        try:
            self.pipe.send(what)
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            raise UserError(f"{self.what} ended with exit code {code}; what it said stands above.") from None

    def end(self) -> None:
        self.process.terminate()
        self.process.join()


def compare(setting: Setting, repeats: int) -> dict:
    """A row: of each side median seconds, extra MiB of a step and trained parameters, and theirs / ours."""
    sides = {"theirs": Side(theirs, setting), "ours": Side(ours, setting)}
    row = dict(trainer=setting.trainer, classes=setting.classes, batch=setting.batch, repeats=repeats)
    try:
        steps = {name: functools.partial(side.ask, "step") for name, side in sides.items()}
        seconds = timed(steps, repeats, torch.device("cpu"))  # each process waits for its own device
        for name, side in sides.items():
            row[f"{name}_seconds"] = statistics.median(seconds[name])
            row[f"{name}_mb"], row[f"{name}_parameters"] = side.ask("memory"), side.ask("parameters")
    finally:
        for side in sides.values():
            side.end()
    turns = [a / b for a, b in zip(seconds["theirs"], seconds["ours"], strict=True)]
    row |= dict(time_ratio=statistics.median(turns), time_ratio_range=[min(turns), max(turns)])
    row["memory_ratio"] = row["theirs_mb"] / row["ours_mb"]
    row["commit"] = commit(setting.checkout) if (setting.checkout / ".git").exists() else ""
    return row


def require(flag: str, folder: Path) -> None:
    """That a folder holds the code of its reference."""
    repository, inside, trainers = CHECKOUTS[flag]
    for file in ("clip/clip.py", *(f"trainers/{name.lower()}.py" for name in trainers)):
        if not (folder / inside / file).is_file():
            raise UserError(
                f"--{flag} {folder} has no {Path(inside, file).as_posix()}: name a checkout of "
                f"https://github.com/{repository}."
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, (repository, _, trainers) in CHECKOUTS.items():
        parser.add_argument(f"--{flag}", type=Path, help=f"checkout of {repository}: {', '.join(trainers)}")
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="a toy, to test this program")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    args = parser.parse_args(argv)

    given = {flag: folder.resolve() for flag in CHECKOUTS if (folder := getattr(args, flag))}
    if not given:
        raise UserError(f"Nothing to compare with: give a checkout, {' or '.join(f'--{flag}' for flag in CHECKOUTS)}.")
    for flag, folder in given.items():
        require(flag, folder)
    device, rows = torch.device(args.device), []
    for flag, folder in given.items():
        _, inside, trainers = CHECKOUTS[flag]
        for name in trainers:
            setting = Setting(name, folder, inside, args.classes, args.batch, device, args.tiny)
            row = compare(setting, args.repeats)
            rows.append(row)
            print(
                "{trainer:10s} theirs {theirs_seconds:7.3f} s {theirs_mb:6.0f} MB  ours {ours_seconds:7.3f} s "
                "{ours_mb:6.0f} MB  theirs / ours x{time_ratio:5.2f} time x{memory_ratio:5.2f} memory".format(**row),
                flush=True,
            )
            if args.out:  # after each: a run that is cut leaves what it has
                save(args.out, "peers", rows, device, "fp32")


if __name__ == "__main__":
    exit_on_user_error(main)
