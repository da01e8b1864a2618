"""Checkpoints: <folder>/model.pth.tar-<finished epochs>, and a text file `checkpoint` that names the last one written.

A file holds state dicts and numbers only and is read with weights_only=True.  Dassl 0.6.3 also pickled a scheduler
object: such foreign objects are read as empty shells, nothing of theirs is run.

A file is on the disk before it takes its name.  Where the last one is damaged all the same, a run goes on from the last
that is whole.
"""

import codecs
import math
import os
import os.path as osp
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np
import torch

from dassl.utils.errors import DamagedCheckpoint, SettingError
from dassl.utils.modules import unwrap
from dassl.utils.tools import mkdir_if_missing

BEST = "model-best.pth.tar"


class Shell:
    """Stands in for whatever an old checkpoint pickled besides tensors and numbers."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state) -> None:
        pass


def harmless() -> dict[str, Callable]:
    """What an old file may hold besides and is read: dictionaries, and a NumPy number as val_result (NumPy 1 and 2)."""
    scalar = np.float64(0).__reduce__()[0]
    found = {f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")}
    for kind in (np.float16, np.float32, np.float64, np.int64):
        kind = type(np.dtype(kind))
        found[f"{kind.__module__}.{kind.__name__}"] = kind
    found |= {"numpy.dtype": np.dtype, "_codecs.encode": codecs.encode}
    return found | {"builtins.dict": dict, "collections.defaultdict": lambda *factory: {}}


def bare(state_dict: dict) -> dict:
    """Names without the leading 'module.' of a parallel wrapper."""
    return type(state_dict)((key.removeprefix("module."), value) for key, value in state_dict.items())


@contextmanager
def replacing(path: str) -> Iterator[IO[Any]]:
    """A neighbour to write to; once on the disk it takes the name of `path`; where that fails, the old file stays."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.unlink(part)


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys=True, model_name=""
) -> None:
    """Write state = {state_dict, epoch, optimizer, scheduler, val_result}; a kill leaves the file before intact.

    is_best: as model-best.pth.tar too.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        state = {**state, "state_dict": bare(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = osp.join(save_dir, name)
    for target in (path, osp.join(save_dir, BEST)) if is_best else (path,):
        with replacing(target) as file:
            torch.save(state, file)
    with replacing(osp.join(save_dir, "checkpoint")) as file:
        file.write(f"{name}\n".encode())
    print(f"Checkpoint saved to {path}")


def load_checkpoint(fpath: str) -> dict:
    """The content of a checkpoint, on the CPU.  FileNotFoundError or SettingError name the file."""
    if fpath is None or not osp.isfile(fpath):
        raise FileNotFoundError(f"No checkpoint at {fpath}")
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return load_old_checkpoint(fpath)
    except Exception:  # a truncated archive fails in many ways
        raise DamagedCheckpoint(f"{fpath} is not a checkpoint, or damaged") from None


def load_run(fpath: str) -> dict:
    """A checkpoint that a run has left."""
    checkpoint = load_checkpoint(fpath)
    if not isinstance(checkpoint, dict) or not {"state_dict", "epoch"} <= checkpoint.keys():
        raise DamagedCheckpoint(f"{fpath} is not a checkpoint of a run: it lacks state_dict or epoch")
    return checkpoint


def load_old_checkpoint(fpath: str) -> dict:
    """One of Dassl 0.6.3: every class that is not data becomes a Shell."""
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint") and zipfile.is_zipfile(fpath):
        raise SettingError(f"{fpath} holds more than weights: reading it needs PyTorch 2.6 or newer")
    try:
        known = harmless()
        foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(fpath)) - set(known)
        allowed = [(Shell, name) for name in foreign] + [(kind, name) for name, kind in known.items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(fpath, map_location="cpu", weights_only=True)
    except Exception:  # PyTorch's messages recommend to run foreign code
        if not zipfile.is_zipfile(fpath):  # which every checkpoint of 0.6.3 is
            raise DamagedCheckpoint(f"{fpath} is not a checkpoint, or damaged") from None
        raise SettingError(f"{fpath} is not a checkpoint, damaged, or holds code: it is not loaded") from None


def last_written(fdir: str) -> str:
    """The file's name in the pointer."""
    with open(osp.join(fdir, "checkpoint"), encoding="utf-8", errors="replace") as file:
        return file.read().strip("\n\0 ")


def epoch_of(name: str) -> float:
    """By a file's name; infinite where it names none (model-best.pth.tar)."""
    numbered = re.fullmatch(r"model\.pth\.tar-(\d+)", name)
    return int(numbered[1]) if numbered else math.inf


def last_whole(folders: list[str]) -> list[tuple[str, dict]]:
    """(path, content) for each folder, a model each, of the last epoch that all hold undamaged; [] where there is none.

    A kill may have come between the models of one epoch, or a power failure while a file was written.
    """
    newest = min((last_written(folder) for folder in folders), key=epoch_of)
    older = [name for name in os.listdir(folders[0]) if epoch_of(name) < epoch_of(newest)]
    for name in (newest, *sorted(older, key=epoch_of, reverse=True)):
        paths = [osp.join(folder, name) for folder in folders]
        try:
            found = [load_run(path) for path in paths]
        except (DamagedCheckpoint, FileNotFoundError) as error:
            print(f"{error}: looking for an older one")
            continue
        if len({checkpoint["epoch"] for checkpoint in found}) == 1:
            return list(zip(paths, found, strict=True))
        print(f"{', '.join(paths)} are of different epochs: looking for older ones")
    return []


def resume_from_checkpoint(fdir: str, model, optimizer=None, scheduler=None) -> int:
    """Load what was written last into a folder, and is whole -> the number of finished epochs."""
    if not (found := last_whole([fdir])):
        raise FileNotFoundError(f"No whole checkpoint in {fdir}")
    resume_from(*found[0], model, optimizer, scheduler)
    return found[0][1]["epoch"]


def resume_from(path: str, checkpoint: dict, model, optimizer=None, scheduler=None) -> None:
    """Put a checkpoint's states, which came from `path`, where they belong."""
    print(f"Loading checkpoint from '{path}'")
    try:
        unwrap(model).load_state_dict(checkpoint["state_dict"])
        if optimizer is not None and checkpoint.get("optimizer") is not None:
            optimizer.load_state_dict(checkpoint["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"{path} is of a run with other settings: {' '.join(str(error).split())}") from None
    state = checkpoint.get("scheduler")
    if scheduler is not None and state is not None:
        if isinstance(state.get("successor"), Shell):  # 0.6.3: it counts the warm-up only
            state = {"last_epoch": checkpoint["epoch"]}
        scheduler.load_state_dict(state)
    print(f"Resumed after epoch {checkpoint['epoch']}")


def load_pretrained_weights(model, weight_path: str) -> None:
    """Take over what matches in name and shape, and say how much did not."""
    checkpoint = load_checkpoint(weight_path)
    found = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(found, dict):
        raise SettingError(f"{weight_path} holds no weights by name")
    found, wanted = bare(found), model.state_dict()
    matched = {k: v for k, v in found.items() if k in wanted and wanted[k].shape == getattr(v, "shape", None)}
    model.load_state_dict(matched, strict=False)
    print(f"Loaded {len(matched)} of the model's {len(wanted)} entries from '{weight_path}'")
    for keys, whose, what in (
        (found.keys() - matched.keys(), f"the {len(found)} entries of {weight_path}", "fit nothing and are not used"),
        (wanted.keys() - matched.keys(), f"the {len(wanted)} entries of the model", "are not in the file and stay"),
    ):
        if keys:
            named = ", ".join(sorted(keys)[:5]) + (", ..." if len(keys) > 5 else "")
            print(f"Warning: {len(keys)} of {whose} {what}: {named}")
