"""The reference implementations' numbers: each file in golden/ with the method that has to meet them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from yacs.config import CfgNode

import cilmp.trainers  # noqa: F401  registers
from cilmp.clip import CLIP
from cilmp.clip.build import openai
from cilmp.trainers.engine.checkpoints import rename
from cilmp.trainers.engine.config import trainers
from cilmp.trainers.method import Task
from dassl.engine import TRAINER_REGISTRY

FOLDER = Path(__file__).parent / "golden"
FEATURES = {  # files of test_golden_features.py
    "clipadapter": "CLIPAdapter",
    "cliplora": "CLIPLoRA",
    "gda": "GDA",
    "lpp": "LPPlusPlus",
    "sstextplus": "SSTextPlus",
    "tipadapter": "TipAdapter",
    "tipadapter_f": "TipAdapterF",
}
BACKBONES = {"tiny", "openclip", "siglip", "deep"}  # files of tests/clip, and of test_golden_biomedclip.py
FILES = sorted(p.stem for p in FOLDER.glob("*.safetensors") if p.stem.split("_")[0] not in {*FEATURES, *BACKBONES})
FILES = [name for name in FILES if "biomedclip" not in name]
KINDS = {name.lower(): TRAINER_REGISTRY.get(name) for name in trainers()}
WORDS = ("ctx_init", "class_token_position", "template")  # stand as they are, everything else as JSON
OTHERWISE = {
    "block": "CLASS_DEPTH",
    "lambda": "LAMBDA",
}  # what an option is called here, where not the same in capitals


def read(name: str) -> tuple[dict[str, Tensor], dict]:
    """(tensors, what the metadata says)."""
    path = FOLDER / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        said = file.metadata()
    return load_file(path), {key: value if key in WORDS else plain(value) for key, value in said.items()}


def plain(value: str):
    try:
        return json.loads(value if value[:1] in '[{"' else value.lower())
    except ValueError:
        return value


def build(name: str) -> tuple[type, nn.Module, dict[str, Tensor], CfgNode]:
    """(trainer, its method with the file's options, tensors of the file, the options)."""
    tensors, said = read(name)
    kind = KINDS[name.split("_")[0]]
    options = {OTHERWISE.get(key, key.upper()): value for key, value in said.items()}
    if "CILMP" in kind.__name__:
        options["N_CTX_TEXT"] = options["N_CTX_VISION"] = options["N_CTX"]
    options = {key: value for key, value in options.items() if key in kind.defaults}
    classnames = said["classnames"]
    states = [tensors[f"llm.{c}"] for c in classnames] if f"llm.{classnames[0]}" in tensors else None
    sentences = [said["prompts"][c] for c in classnames] if "prompts" in said else None
    clip = tiny_clip(tensors, said.get("text_layers", 3), halved=name.startswith(("coop", "cocoop")))
    torch.manual_seed(0)
    task = Task(classnames, states=states, sentences=sentences)
    return kind, kind.build(clip, task, **options), tensors, CfgNode(kind.defaults | options)


def tiny_clip(tensors: dict[str, Tensor], layers: int, halved: bool) -> CLIP:
    """tiny_clip, the file's own embedding rows beside its own; text block i of `layers` is block i mod 3.

    halved: some references halve every CLIP they load, then widen it: nothing to OpenAI's files, which are half.
    """
    weights = load_file(FOLDER / "tiny_clip.safetensors")
    for key in ("token_embedding.ids", "token_embedding.rows"):
        weights[key] = torch.cat([weights[key], tensors.get(key, weights[key][:0])])
    for key in [key for key in weights if key.startswith("transformer.resblocks.")]:
        prefix, block, rest = key.rsplit("resblocks.", 1)[0], *key.rsplit("resblocks.", 1)[1].split(".", 1)
        for i in range(int(block) + 3, layers, 3):
            weights[f"{prefix}resblocks.{i}.{rest}"] = weights[key]
    clip = openai(weights)
    if halved:
        norms = {key: value.clone() for key, value in clip.state_dict().items() if "ln_" in key}
        clip.cast("fp16").float().load_state_dict(norms, strict=False)  # LayerNorms stay as they are there
    return clip


def named(what: str, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors `what.<name>` under our names."""
    start = what + "."
    return {rename(key[len(start) :], model.renames): v for key, v in tensors.items() if key.startswith(start)}


def load(model: nn.Module, values: dict[str, Tensor]) -> None:
    """All that is trained, and nothing else."""
    ours = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert values.keys() == ours.keys()
    for key, value in values.items():
        ours[key].data.copy_(value)


def stand_in(kind, model, options, precision="fp32"):
    """A trainer with what a step of its reads."""
    trainer = kind.__new__(kind)
    trainer.model, trainer.step, trainer.options = model, model.losses, options
    trainer.precision, trainer.scaler = precision, None
    trainer.device = next(model.parameters()).device
    trainer.model_zero_grad = lambda: model.zero_grad()
    trainer.model_backward = lambda loss: loss.backward()
    return trainer
