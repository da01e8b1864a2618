"""Files of weights and what lies beside them: read, found in a folder, or fetched; nothing foreign runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cilmp.clip import archive
from cilmp.errors import UserError, nearest
from cilmp.files import sha256

BESIDE = ("*.json", "*.txt", "*.model")  # configs and tokenizers
TOY = "b6c54018310b38ab395fd7f2e1884fca37e89328673c7ab8115014279ad3d7d9"  # the random CLIP that tests load


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, OpenAI's TorchScript archive or a plain torch file; nothing in it runs.

    UserError where the file is absent, damaged, holds anything but tensors, or numbers that are not finite.
    """
    if not path.is_file():
        raise UserError(f"No backbone weights at {path}: check MODEL.BACKBONE.PATH.")
    try:
        weights = load(path)
    except Exception as error:  # a damaged or foreign file fails in many ways
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"Cannot read backbone weights from {path}: {first[:200]}") from None
    if not isinstance(weights, Mapping) or not weights:
        raise UserError(f"{path} holds {type(weights).__name__}, not a state dict: check MODEL.BACKBONE.PATH.")
    weights = weights.get("state_dict", weights)
    for key, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path} holds a {type(value).__name__} as '{key}', not a tensor: it is no state dict.")
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"'{key}' in {path} is not finite: the file is damaged; fetch it again.")
    wrapped = all(key.startswith("module.") for key in weights)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in weights.items()}


def load(path: Path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if archive.is_archive(path):
        return archive.state_dict(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def activation(path: Path) -> str:
    """What a file of OpenAI's names says of its activation: its metadata, its archive's code, or, where it is one of
    OpenAI's, its hash; '' where it says nothing."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            if said := (file.metadata() or {}).get("activation", ""):
                return said
    elif archive.is_archive(path):
        return "gelu" if archive.mentions(path, b"torch.gelu(") else "quick_gelu"
    import clip.clip

    openais = {part for url in clip.clip._MODELS.values() for part in url.split("/") if len(part) == 64}
    return "quick_gelu" if sha256(path) in openais | {TOY} else ""


def json_file(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): fetch it again.") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): fetch it again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a config: fetch it again.")
    return found


def first(folder: Path, names: Sequence[str]) -> Path:
    """The first of the names that is in the folder."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"No weights in {folder}: looked for {', '.join(names)}; fetch one of them.")


def read_shards(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The first of the names, or the parts that NAME.index.json lists."""
    for name in names:
        index = folder / f"{name}.index.json"
        if not (folder / name).is_file() and index.is_file():
            parts = sorted(set(json_file(index).get("weight_map", {}).values()))
            return {key: value for part in parts for key, value in read(folder / Path(part).name).items()}
    return read(first(folder, names))


def openai(name: str, cache: Path) -> Path:
    """The file of one of OpenAI's models, downloaded (and its SHA-256 checked) by the `clip` package if need be."""
    import clip.clip

    url = clip.clip._MODELS[name]
    file = cache / Path(url).name
    try:
        return Path(clip.clip._download(url, str(cache)))
    except Exception as error:  # the network's many ways to fail
        raise UserError(
            f"Backbone '{name}' is not in {file} and could not be downloaded ({error}): put the file there, "
            "or name a local one with MODEL.BACKBONE.PATH."
        ) from None


def folder(name: str, files: Sequence[str], kind: str) -> Path:
    """A folder as it is, or a repository of Hugging Face's hub, downloaded if need be.

    files: names of weights, the first that is there is fetched.  kind: "hf" or "open_clip".
    """
    if Path(name).is_dir():
        return Path(name)
    missing = (
        f"No folder or repository '{name}' ({{}}): check the name, or on an offline machine give the folder of a "
        f"downloaded copy ({kind}:/path/to/folder)."
    )
    if name.count("/") != 1 or name.startswith((".", "~")):
        raise UserError(missing.format("a repository is named owner/name"))
    try:
        import huggingface_hub as hub

        there = set(hub.HfApi().list_repo_files(name)) if not hub.constants.HF_HUB_OFFLINE else set(files)
        wanted = next(([file] for file in files if file in there), ["*.safetensors", "*.pt"])
        return Path(hub.snapshot_download(name, allow_patterns=[*BESIDE, *wanted]))
    except Exception as error:  # the network's many ways to fail
        try:
            return Path(hub.snapshot_download(name, local_files_only=True))
        except Exception:
            raise UserError(missing.format(str(error).splitlines()[0][:160])) from None


def unknown(name: str, known: Sequence[str]) -> UserError:
    return UserError(f"Unknown backbone '{name}'.{nearest(name, known)}")
