"""Which checkpoint a run goes on from, and whether it fits; the reference implementations' load too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cilmp.errors import UserError, brief
from cilmp.files import sha256
from cilmp.results import records
from dassl.utils import load_checkpoint

SHARED = "prompts.safetensors"  # in the folder of a run that came from elsewhere


def locate(folder: Path, epoch: int | None) -> Path:
    """model.pth.tar-<epoch>; without an epoch the best on validation, else the one saved last, else SHARED above."""
    if epoch is not None:
        path = folder / f"model.pth.tar-{epoch}"
    else:
        path = folder / "model-best.pth.tar"
        pointer = folder / "checkpoint"
        if not path.exists() and pointer.exists():
            path = folder / pointer.read_text().strip()
        if not path.exists() and (shared := folder.parent / SHARED).is_file():
            if (folder.parent / records.NAME).is_file():
                require_shared(shared, records.read(folder.parent), folder.parent)
            path = shared
    if not path.exists():
        saved = sorted(p.name for p in folder.glob("model*")) if folder.is_dir() else []
        there = f"there: {', '.join(saved)}" if saved else "the folder holds no checkpoint of this trainer"
        raise UserError(f"No checkpoint at {path} ({there}): check --model-dir and --load-epoch.")
    return path


def require_shared(prompts: Path, record: dict, place: object) -> None:
    """UserError where a shared run's prompts are not those that its record came with."""
    then = record.get("prompts", "")
    if then and sha256(prompts) != then:
        raise UserError(
            f"{SHARED} in {place} is not the one that the run was shared with (SHA-256 {then}): fetch both again."
        )


def read(path: Path, unpacked: Callable[[dict, Path], dict] | None = None) -> dict:
    """A checkpoint's {'state_dict', 'epoch', ...}; UserError where the file is not there, damaged or foreign.

    unpacked: makes such a dict of a reference's file of another form.
    """
    if path.suffix == ".safetensors":
        return {"state_dict": tensors(path)}
    try:
        saved = load_checkpoint(str(path))
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    if unpacked and isinstance(saved, dict):
        saved = unpacked(saved, path)
    state = saved.get("state_dict", saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is not a checkpoint: it holds no state dict.")
    return saved if "state_dict" in saved else {"state_dict": state}


def tensors(path: Path) -> dict[str, Tensor]:
    """Of a safetensors file, which nothing can run from."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}): fetch it again.") from None


def fit(
    path: Path,
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    renames: Sequence[tuple[str, str]],
    owner: str,
) -> dict[str, Tensor]:
    """The entries of `state` that `wanted` names, in its shapes and precisions; UserError names what does not fit.

    A reference's file may hold more: frozen weights.  A shared run's may not: more is another method's.
    """
    found = {rename(key, renames): value for key, value in state.items()}
    for key, value in wanted.items():
        if key not in found:
            raise UserError(f"{path} is not a checkpoint of {owner}: it has no '{key}'.")
        if found[key].shape != value.shape:
            raise UserError(
                f"{path} does not fit: '{key}' is {tuple(found[key].shape)} there and {tuple(value.shape)} here; "
                "use the options (depth, context length, backbone, LLM, classes) the checkpoint was trained with."
            )
    if path.name == SHARED and (more := sorted(found.keys() - wanted.keys())):
        raise UserError(f"{path} is not what {owner} learned: it has '{brief(more, 3)}' too; fetch the run again.")
    return {key: found[key].to(value.dtype) for key, value in wanted.items()}


def rename(key: str, renames: Sequence[tuple[str, str]]) -> str:
    """The first pattern that changes the key decides."""
    for pattern, new in renames:
        renamed = re.sub(pattern, new, key)
        if renamed != key:
            return renamed
    return key
