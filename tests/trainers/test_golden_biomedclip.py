"""Parity on BiomedCLIP: numbers of BiomedCoOp's own trainers, and of deep prompts as they are defined here (golden/).

Their files are single precision, and rounding alone makes 8e-6: logits are compared in double precision.
"""

import json

import pytest
import torch
from foreign import biomed_folder, golden
from reference import FOLDER, KINDS, plain, stand_in
from torch.nn import functional as F
from yacs.config import CfgNode

from cilmp.clip import load_clip
from cilmp.prompts import ClassPrompts, lead
from cilmp.trainers.engine.checkpoints import rename
from cilmp.trainers.method import Method, Task, normalise

FILES = sorted(path.stem for path in FOLDER.glob("*_biomedclip*.safetensors"))
DTYPES = {"fp64": torch.float64, "fp32": torch.float32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return biomed_folder(tmp_path_factory.mktemp("biomed"))


def check_gradients(parameters: dict, tensors: dict) -> None:
    for key, value in tensors.items():
        if key.startswith("grad."):
            grad = parameters[key[5:]].grad
            assert (grad - value).norm() <= 1e-4 * value.norm(), key


def terms(tensors: dict, said: dict) -> dict:
    """The loss, term by term."""
    if "score" in tensors:
        near = float(said["w"]) * tensors["score"]
        return {"ce": tensors["loss"] - near, "kg": near}
    return {key[5:]: value for key, value in tensors.items() if key.startswith("loss_")} or {"ce": tensors["loss"]}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("literal", [False, True], ids=["fast", "literal"])
@pytest.mark.parametrize("name", FILES)
def test_reference_numbers(name, literal, precision, folder):
    _, tensors, said = golden(name)
    kind, dtype = KINDS[name.split("_")[0]], DTYPES[precision]
    options = {key.upper(): value if key == "ctx_init" else plain(value) for key, value in said.items()}
    options = {key: value for key, value in options.items() if key in kind.defaults}
    classnames, sentences = json.loads(said["classnames"]), None
    if "sentences" in said:
        told = json.loads(said["sentences"])
        sentences = [told[name.replace("_", " ")] for name in classnames]
    model = kind.build(load_clip(f"open_clip:{folder}"), Task(classnames, sentences=sentences), **options)
    model.literal = literal
    model.to(dtype).train()
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    tensors = {rename(key, [(r"(param|grad)\.prompt_learner\.", r"\1.")]): v.to(dtype) if v.is_floating_point() else v
               for key, v in tensors.items()}  # fmt: skip
    for key, p in parameters.items():
        p.data.copy_(tensors[f"param.{key}"])
    if "teacher" in tensors:
        assert (normalise(model.teacher) - normalise(tensors["teacher"])).abs().max() < 1e-5
    losses, logits = model.losses(tensors["images"], tensors["labels"])
    assert (logits - tensors["logits"]).abs().max() < (2e-5 if precision == "fp64" else 3e-5)
    expected = terms(tensors, said)
    assert losses.keys() == expected.keys()
    for term, value in expected.items():
        assert abs(losses[term] - value) < 1e-5, term
    stand_in(kind, model, CfgNode(kind.defaults | options)).backward(losses)
    check_gradients(parameters, tensors)


class Written(Method):
    """Deep prompts that are parameters themselves, those of each (image, class) too, written as they are."""

    norm_prompts = False

    def __init__(self, clip, tensors: dict, said: dict):
        super().__init__(clip)
        self.given = {
            key[6:]: value.clone().requires_grad_() for key, value in tensors.items() if key.startswith("param.")
        }
        names, lengths = json.loads(said["classnames"]), json.loads(said["llm_len"])
        self.prompts = ClassPrompts(clip, names, int(said["n_ctx"]), lengths=lengths)

    def layers(self, name: str) -> list:
        return [self.given[key] for key in sorted(key for key in self.given if key.startswith(name))]

    def image(self, image):
        return self.clip.encode_image(image, self.layers("vision"), self.literal)

    def text(self, f):
        ctx, llm = self.layers("ctx"), self.layers("llm")
        at = self.prompts.index("ctx"), self.prompts.index("llm")
        deep = [{}] + [{at[0]: lead(c), at[1]: t} for c, t in zip(ctx[1:], llm[1:], strict=True)]
        return self.encode_text(self.prompts(ctx[0], llm[0]), self.prompts.eot, deep)


@pytest.mark.parametrize("literal", [False, True], ids=["fast", "literal"])
@pytest.mark.parametrize("name", ["deep_biomed_depth2", "deep_biomed_depth3"])
def test_deep_prompts_are_written_as_defined(name, literal, folder):
    _, tensors, said = golden(name)
    tensors = {key: v.double() if v.is_floating_point() else v for key, v in tensors.items()}
    model = Written(load_clip(f"open_clip:{folder}").double(), tensors, said).double().train()
    model.literal = literal
    image, text = model.features(tensors["images"])
    logits = model.clip.logits(image, text)
    loss = F.cross_entropy(logits, tensors["labels"])
    loss.backward()
    for ours, theirs in ((image, "image_features"), (text, "text_features")):
        assert (ours - tensors[theirs]).abs().max() < 1e-5
    assert (logits - tensors["logits"]).abs().max() < 2e-5 and abs(loss - tensors["loss"]) < 1e-5
    check_gradients(model.given, tensors)
