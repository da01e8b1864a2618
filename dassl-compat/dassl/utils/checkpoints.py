"""Checkpoints: <folder>/model.pth.tar-<finished epochs>, and a text file `checkpoint` that names the last one written.

A file holds state dicts and numbers only and is read with weights_only=True.  Dassl 0.6.3 also pickled a scheduler
object: such foreign objects are read as empty shells, nothing of theirs is run.
"""

import codecs
import os
import os.path as osp
import pickle
import shutil
from collections.abc import Callable

import numpy as np
import torch

from dassl.utils.errors import SettingError
from dassl.utils.modules import unwrap
from dassl.utils.tools import mkdir_if_missing


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


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys=True, model_name=""
) -> None:
    """Write state = {state_dict, epoch, optimizer, scheduler, val_result}; a kill leaves the file before intact."""
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        state = {**state, "state_dict": bare(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = osp.join(save_dir, name)
    torch.save(state, f"{path}.part")
    os.replace(f"{path}.part", path)
    pointer = osp.join(save_dir, "checkpoint")
    with open(f"{pointer}.part", "w", encoding="utf-8") as file:
        file.write(f"{name}\n")
    os.replace(f"{pointer}.part", pointer)
    print(f"Checkpoint saved to {path}")
    if is_best:
        shutil.copy(path, osp.join(save_dir, "model-best.pth.tar"))


def load_checkpoint(fpath: str) -> dict:
    """The content of a checkpoint, on the CPU.  FileNotFoundError or SettingError name the file."""
    if fpath is None or not osp.exists(fpath):
        raise FileNotFoundError(f"No checkpoint at {fpath}")
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return load_old_checkpoint(fpath)
    except Exception:  # a truncated archive fails in many ways
        raise SettingError(f"{fpath} is not a checkpoint, or damaged") from None


def load_old_checkpoint(fpath: str) -> dict:
    """One of Dassl 0.6.3: every class that is not data becomes a Shell."""
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        raise SettingError(f"{fpath} holds more than weights: reading it needs PyTorch 2.6 or newer")
    try:
        known = harmless()
        foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(fpath)) - set(known)
        allowed = [(Shell, name) for name in foreign] + [(kind, name) for name, kind in known.items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(fpath, map_location="cpu", weights_only=True)
    except Exception:  # PyTorch's messages recommend to run foreign code
        raise SettingError(f"{fpath} is not a checkpoint, damaged, or holds code: it is not loaded") from None


def last_written(fdir: str) -> str:
    """The file's name in the pointer."""
    with open(osp.join(fdir, "checkpoint"), encoding="utf-8") as file:
        return file.read().strip()


def last_common(folders: list[str]) -> str:
    """The last file that all folders hold: a kill may have come between the models of one epoch."""
    names = {last_written(folder) for folder in folders}
    return min(names, key=lambda name: int("".join(c for c in name.rpartition("-")[2] if c.isdigit()) or -1))


def resume_from_checkpoint(fdir: str, model, optimizer=None, scheduler=None, file: str = "", whole: bool = False):
    """Load what was written last into a folder -> the number of finished epochs (or the whole checkpoint)."""
    path = osp.join(fdir, file or last_written(fdir))
    print(f"Loading checkpoint from '{path}'")
    checkpoint = load_checkpoint(path)
    try:
        unwrap(model).load_state_dict(checkpoint["state_dict"])
        if optimizer is not None and checkpoint.get("optimizer") is not None:
            optimizer.load_state_dict(checkpoint["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"{path} is of a run with other settings: {' '.join(str(error).split())}") from None
    state = checkpoint.get("scheduler")
    if scheduler is not None and state is not None:
        if "successor" in state:  # 0.6.3: it counts the warm-up only
            state = {"last_epoch": checkpoint["epoch"]}
        scheduler.load_state_dict(state)
    print(f"Resumed after epoch {checkpoint['epoch']}")
    return checkpoint if whole else checkpoint["epoch"]


def load_pretrained_weights(model, weight_path: str) -> None:
    """Take over what matches in name and shape."""
    checkpoint = load_checkpoint(weight_path)
    found = bare(checkpoint.get("state_dict", checkpoint))
    wanted = model.state_dict()
    matched = {k: v for k, v in found.items() if k in wanted and wanted[k].size() == v.size()}
    model.load_state_dict(matched, strict=False)
    if not matched:
        print(f"Warning: nothing in {weight_path} matches the model in name and shape")
    else:
        left = sorted(set(found) - set(matched))
        print(f"Loaded pretrained weights from '{weight_path}'" + (f"; not used: {left}" if left else ""))
