"""One .safetensors file for a data set and an LLM: a tensor (L, d) per class, and how it was made.

The authors' folders, one .pth per class, are read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cilmp import yamls
from cilmp.errors import UserError
from cilmp.files import write_bytes

SHIPPED = Path(__file__).parents[1] / "assets" / "representations"
FOUND = Path("representations")  # below the working directory


@dataclass
class Knowledge:
    """States (L, d) of each class; one width d, L may differ.  The metadata is JSON-able."""

    classnames: list[str]
    states: list[Tensor]
    metadata: dict = field(default_factory=dict)


def load(source: str, classnames: Sequence[str], dataset: str = "", stem: str = "") -> Knowledge:
    """The states of `classnames`, in their order.

    stem: of the data set's own file; its name in lower case where none is given.
    source: a file, a folder of `<dataset>.safetensors`, a folder of the authors' layout (`<set>/<class>.pth` or
    `<class>.pth`), or "" for what is shipped with CILMP or else stands in `representations/`: see `find`.
    A class is matched by its exact name, else with underscores as spaces and without regard to case.
    The metadata is the file's, with `source` and its `sha256`, and without the answers.
    """
    path = locate(source, dataset, classnames, stem)
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.pth"))}
        names = match(classnames, list(files), path, dataset)
        states, metadata = [tensor(files[name]) for name in names], {"model": "", "layout": "one .pth per class"}
        read_from = [files[name] for name in names]
    else:
        whole = read(path)
        by_name = dict(zip(whole.classnames, whole.states, strict=True))
        states = [by_name[name] for name in match(classnames, whole.classnames, path, dataset)]
        metadata = {key: value for key, value in whole.metadata.items() if key != "answers"}
        read_from = [path]
    metadata["sha256"] = hashlib.sha256(b"".join(file.read_bytes() for file in read_from)).hexdigest()
    check(classnames, states, path)
    return Knowledge(list(classnames), states, metadata | {"source": str(source or path.name)})


def locate(source: str, dataset: str, classnames: Sequence[str] = (), stem: str = "") -> Path:
    """The file, or the authors' folder, that `load` reads."""
    return file_in(Path(source), dataset, stem) if source else find(dataset, classnames, stem)


def read(path: str | os.PathLike) -> Knowledge:
    """A whole file, verified against the hash of its class list."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"No representation file at {path}: check the path, or make it with {command('', [], path)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["cilmp"])
            names = metadata.pop("classnames")
            states = [file.get_tensor(name) for name in names]
            complete = set(names) == set(file.keys())
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut off ({error}): extract it again, or copy it again.") from None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UserError(
            f"{path} is a safetensors file, but not one of class representations: make one with {command('', [], path)}"
        ) from None
    if not complete or metadata.get("classes_sha256") != fingerprint(names):
        raise UserError(f"The classes in {path} are not those it was made with: extract it again.")
    check(names, states, path)
    return Knowledge(names, states, metadata)


def save(path: str | os.PathLike, knowledge: Knowledge) -> Path:
    """Atomic, in float16 where the values fit (an LLM's largest activations may not: then float32)."""
    from safetensors.torch import save as to_bytes

    path, names = Path(path), knowledge.classnames
    check(names, knowledge.states, path)
    fits = max(float(h.abs().max()) for h in knowledge.states) < torch.finfo(torch.float16).max
    dtype = torch.float16 if fits else torch.float32
    tensors = {name: h.to("cpu", dtype).contiguous() for name, h in zip(names, knowledge.states, strict=True)}
    facts = knowledge.metadata | {"classnames": list(names), "classes_sha256": fingerprint(names)}
    # not save_file, which makes files that only their owner may read; one key, for several come in any order
    return write_bytes(path, to_bytes(tensors, {"cilmp": json.dumps(facts, ensure_ascii=False)}), mend="check --out")


def file_name(dataset: str, stem: str = "") -> str:
    """A data set's file in a folder of representations; sets whose names differ in case alone state a stem."""
    return f"{stem or dataset.lower()}.safetensors"


def fingerprint(classnames: Sequence[str]) -> str:
    """Of the class list, whatever its order."""
    return hashlib.sha256("\n".join(sorted(classnames)).encode()).hexdigest()


def find(dataset: str, classnames: Sequence[str] = (), stem: str = "") -> Path:
    """The file shipped for a data set, else representations/<dataset>.safetensors, else the one
    representations/<any folder>/<dataset>.safetensors (see `file_name`)."""
    file = file_name(dataset, stem)
    for path in (SHIPPED / file, FOUND / file):
        if path.is_file():
            return path
    several = sorted(FOUND.glob(f"*/{file}"))
    if len(several) > 1:
        raise UserError(
            f"Several representations of {dataset}: {', '.join(map(str, several))}: "
            "choose with TRAINER.CILMP.REPRESENTATIONS."
        )
    if not several:
        raise UserError(
            f"No LLM representations of {dataset}, neither shipped nor as {FOUND / file}: make them with "
            f"{command(dataset, classnames, FOUND / file)}, or name a file with TRAINER.CILMP.REPRESENTATIONS."
        )
    return several[0]


def file_in(source: Path, dataset: str, stem: str = "") -> Path:
    """The file, or the folder of .pth files, that a given file or folder means for this data set."""
    if not source.exists():
        raise UserError(
            f"No representations at {source}: check the path, or make them with {command(dataset, [], source)}"
        )
    if source.is_file():
        return source
    file = source / file_name(dataset, stem)
    if dataset and file.is_file():
        return file
    if any(source.glob("*.pth")):
        return source
    folders = {letters(f.name): f for f in sorted(source.iterdir()) if f.is_dir() and any(f.glob("*.pth"))}
    name = letters(dataset)
    begin = [folder for key, folder in folders.items() if dataset and key.startswith(name)]  # APTOS: aptos2019
    if name in folders or len(begin) == 1:
        return folders.get(name) or begin[0]
    raise UserError(
        f"{source} holds neither {file.name} nor .pth files for {dataset or 'this data set'}: name the file or the "
        "folder of its classes."
    )


def tensor(path: Path) -> Tensor:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in many ways
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"Cannot read a tensor from {path} ({reason}): it is damaged or not a plain tensor.") from None
    if not isinstance(state, Tensor):
        raise UserError(f"{path} holds a {type(state).__name__}, not a tensor (layers, width).")
    return state.detach()


def match(wanted: Sequence[str], known: list[str], path: Path, dataset: str) -> list[str]:
    """The stored name of every wanted class."""
    alike: dict[str, list[str]] = {}
    for name in known:
        alike.setdefault(loose(name), []).append(name)
    found = []
    for name in wanted:
        candidates = [name] if name in known else alike.get(loose(name), [])
        if len(candidates) > 1:
            raise UserError(f"Class '{name}' may be any of {', '.join(candidates)} in {path}: rename one.")
        if not candidates:
            raise UserError(
                f"No representation of class '{name}' in {path} (it has {', '.join(known) or 'none'}): make it with "
                f"{command(dataset, wanted, path)}"
            )
        found += candidates
    return found


def loose(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def check(names: Sequence[str], states: Sequence[Tensor], path: Path) -> None:
    """Every class a finite floating (L, d), of one d."""
    if not states:
        raise UserError(f"{path} holds no class.")
    for name, h in zip(names, states, strict=True):
        if h.dim() != 2 or not h.is_floating_point() or not h.numel():
            raise UserError(f"Class '{name}' of {path} is {h.dtype} {tuple(h.shape)}, not floating (layers, width).")
        if h.shape[1] != states[0].shape[1]:
            raise UserError(
                f"In {path} class '{names[0]}' has width {states[0].shape[1]} and class '{name}' {h.shape[1]}: they "
                "come from different LLMs; extract all classes with one."
            )
        if not h.isfinite().all():
            raise UserError(f"The states of class '{name}' in {path} are not finite: extract it with --dtype float32.")


def command(dataset: str, classnames: Sequence[str], path: Path) -> str:
    """The command that makes a file, from any folder."""
    pattern = re.compile(rf"^\s*NAME:\s*[\"']?{re.escape(dataset)}[\"']?\s*$", re.MULTILINE)
    shipped = sorted((yamls.folder() / "datasets").glob("*.yaml"))
    named = [file.stem for file in shipped if pattern.search(file.read_text(encoding="utf-8"))]
    if dataset and named:
        what = f"--dataset-config-file {named[0]}"
    elif classnames:
        what = "--classes " + " ".join(f'"{name}"' for name in classnames)
    else:
        what = f"--dataset-config-file {dataset.lower() or '<data set>'}"
    out = path if path.suffix == ".safetensors" else FOUND / file_name(dataset or "<data set>")
    return f"`python -m cilmp.llm extract {what} --model meta-llama/Meta-Llama-3-8B --out {out}`"
