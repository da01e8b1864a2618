"""Parity with the reference implementations of adapters, probes and tuning: what they gave on fixed numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from models import CLASSNAMES, TOWERS, random_clip
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F
from yacs.config import CfgNode

from cilmp.clip import build
from cilmp.errors import UserError
from cilmp.templates import text_features
from cilmp.trainers.clip_adapter import CLIPAdapter
from cilmp.trainers.clip_lora import CLIPLoRA
from cilmp.trainers.engine.checkpoints import rename
from cilmp.trainers.features import Features
from cilmp.trainers.gda import GDA, GRID
from cilmp.trainers.lp_plus_plus import LPPlusPlus, descend
from cilmp.trainers.method import Task
from cilmp.trainers.ss_text_plus import SSTextPlus
from cilmp.trainers.tip_adapter import TipAdapter, TipAdapterF, train_keys

GOLDEN = Path(__file__).parents[1] / "golden"


def read(name: str, trainer, **options):
    """(the method as its trainer builds it, tensors of the golden file, what the file says of itself)."""
    path = GOLDEN / f"{name}.safetensors"
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    weights = load_file(GOLDEN / "tiny_clip.safetensors")
    for key in ("token_embedding.ids", "token_embedding.rows"):
        weights[key] = torch.cat([weights[key], golden[key]]) if key in golden else weights[key]
    clip, classnames = build.openai(weights), json.loads(said.get("classnames", '["a", "b", "c", "d"]'))
    if "scale" in said:  # the reference's literal
        clip.logit_scale.data = torch.tensor(float(said["scale"])).log()
    method = trainer.build(clip, Task(classnames), **options)
    if "text" in golden:
        method.fixed = golden["text"][None]
    if "text_weights" in golden:
        method.fixed = text_features(clip, classnames, json.loads(said["templates"]))[None]
        close(F.normalize(method.fixed[0], dim=-1).T, golden["text_weights"], 1e-6)
    return method.eval(), golden, said


def close(ours, theirs, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < tolerance


def near(ours, theirs) -> None:
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize(
    ("name", "options"),
    [("clipadapter_r02", {"RATIO": 0.2}), ("clipadapter_feature_r05", {"RATIO": 0.5, "NORMALISED": True})],
)
def test_clip_adapter(name, options):
    model, golden, said = read(name, CLIPAdapter, **options)
    assert options["RATIO"] == float(said["ratio"]) and CLIPAdapter.defaults["REDUCTION"] == int(said["reduction"])
    for key in ("fc.0.weight", "fc.2.weight"):
        dict(model.named_parameters())[key].data.copy_(golden[f"param.adapter.{key}"])
    images, label = golden["images"], golden["labels"]
    for seen in (images, golden["features.image"]):  # an image, and the feature in its place
        if len(seen[0].shape) == 1 and options.get("NORMALISED"):
            close(F.normalize(model.image(images), dim=-1), seen, 1e-6)
        close(model(seen), golden["logits"], 1e-5)
        close(model.infer(seen), golden["logits"], 1e-5)
    losses, _ = model.losses(images, label)
    losses["ce"].backward()
    close(losses["ce"], golden["loss"], 1e-5)
    for key in ("fc.0.weight", "fc.2.weight"):
        near(dict(model.named_parameters())[key].grad, golden[f"grad.adapter.{key}"])


def remembered(name: str, trainer):
    model, golden, said = read(name, trainer)
    train = Features(golden["features.train"], golden["labels.train"])
    views = torch.stack([model.image(view) for view in golden["images.train"]])
    close(views, train.x, 1e-5)
    model.remember(train, (float(said["init_alpha"]), float(said["init_beta"])))
    close(model.values, golden["cache.values"], 1e-9)
    return model, train, golden, said


def test_tip_adapter():
    model, _, golden, said = remembered("tipadapter", TipAdapter)
    close(model.keys.T, golden["cache.keys"], 1e-6)
    close(model.infer(golden["images.test"]), golden["logits"], 2e-4)
    close(model.infer(golden["features.val"]), golden["logits.val"], 2e-4)
    scale, steps = json.loads(said["search_scale"]), json.loads(said["search_step"])
    model.search(golden["features.val"], golden["labels.val"], scale, steps)
    close(model.blend.flip(0).double(), golden["search.best"].double(), 1e-5)
    close(model.infer(golden["images.test"]), golden["logits.searched"], 2e-4)


def test_tip_adapter_f():
    model, train, golden, said = remembered("tipadapter_f", TipAdapterF)
    close(model.keys, golden["param.adapter.weight"], 1e-6)
    close(model(golden["features.test"]), golden["logits"], 2e-4)
    first = golden["steps.index"][0]
    losses, _ = model.losses(golden["images.train"][0][first], train.label[first])
    losses["ce"].backward()
    close(losses["ce"], golden["loss"], 1e-5)
    near(model.keys.grad, golden["grad.adapter.weight"])
    settings = json.loads(said["optim"])
    assert settings.pop("name") == "adamw" and settings["eps"] == TipAdapterF.defaults["EPS"]
    optim = torch.optim.AdamW([model.keys], **settings)
    orders = [[*golden["steps.index"]]] * int(said["epochs"])
    seen = train_keys(model, Features(train.x[:1], train.label), optim, orders)
    for after, pair in ((2, slice(0, 2)), (4, slice(2, 4))):
        close(torch.tensor(next(seen)), golden["steps.loss"][pair].mean(), 1e-4)
        near(model.keys, golden["steps.weight"][after - 1])
        close(model(golden["features.test"]), golden[f"logits.after{after}"], 2e-4)


@pytest.mark.parametrize("accumulate", [False, True])
def test_lp_plus_plus(accumulate):
    """The reference's alpha moves by the sum of its gradients; the file holds the run with each step's own as well."""
    model, golden, said = read("lpp", LPPlusPlus)
    model.classifier.bias.data.copy_(golden["param.classifier.bias"])
    train, label = golden["features.train"], golden["labels.train"]
    rates = model.start(train, label)
    assert rates == pytest.approx((float(golden["lr.weight"]), float(golden["lr.alpha"])), rel=1e-5)
    close(model.classifier.weight, golden["param.classifier.weight"], 1e-5)
    close(model.alpha, golden["param.alpha"], 1e-4)
    close(model.infer(golden["images.test"]), golden["logits"], 2e-4)
    losses, _ = model.losses(train, label)
    losses["ce"].backward()
    close(losses["ce"], golden["loss"], 1e-5)
    for key in ("classifier.weight", "classifier.bias", "alpha"):
        near(dict(model.named_parameters())[key].grad, golden[f"grad.{key}"])
    model.zero_grad()
    steps = descend(model, train, label, int(said["epochs"]), float(said["momentum"]), accumulate)
    for epoch, loss in enumerate(steps, start=1):
        prefix = f"after{epoch}" if accumulate or epoch < 10 else f"zeroed.after{epoch}"
        if accumulate or epoch <= 10:
            close(torch.tensor(loss), golden["epochs.loss"][epoch - 1], 1e-4)
        if f"{prefix}.weight" in golden:
            near(model.classifier.weight, golden[f"{prefix}.weight"])
            near(model.alpha, golden[f"{prefix}.alpha"])
            close(model(golden["features.test"]), golden[f"{prefix}.logits"], 1e-3)
    assert epoch == 30


def fit(trainer, model, train, val) -> None:
    options = SimpleNamespace(**trainer.defaults)
    trainer.fit(SimpleNamespace(model=model, options=options, device="cpu"), train, val)


def test_gda():
    """The file holds what the published solver gave on random features of two views."""
    model, golden, said = read("gda", GDA)
    train = Features(golden["features.train"], golden["labels.train"])
    val = Features(golden["features.val"][None], golden["labels.val"])
    fit(GDA, model, train, None)
    assert model.alpha == GDA.defaults["ALPHA"]
    assert list(GRID) == json.loads(said["grid"])
    for alpha, logits in zip(GRID, golden["logits.val"], strict=True):
        model.alpha.fill_(alpha)
        near(model(val.x[0]), logits)
    fit(GDA, model, train, val)
    near(model.infer(golden["features.test"]), golden["logits"])


def test_gda_leaves_a_class_without_images_to_its_text():
    model, golden, _ = read("gda", GDA)
    here = golden["labels.train"] != 2
    train = Features(golden["features.train"][:, here], golden["labels.train"][here])
    fit(GDA, model, train, None)
    assert model.weight.isfinite().all()
    average = F.normalize(train.x.flatten(0, 1), dim=-1).mean(0)
    scores = average @ model.weight.T + model.bias
    assert scores.argmax() == 2 and (model.infer(golden["features.test"]).argmax(-1) == 2).any()


def test_ss_text_plus():
    """The file holds what the published solver gave on random features, unbalanced and one class without any."""
    model, golden, _ = read("sstextplus", SSTextPlus)
    train = Features(golden["features.train"][None], golden["labels.train"])
    assert len(train.label.unique()) == 3
    fit(SSTextPlus, model, train, None)
    close(model.prototypes, golden["prototypes"], 1e-4)
    close(model.infer(golden["features.test"]), golden["logits"], 1e-4)
    close(model.infer(train.x[0]).softmax(-1), golden["probabilities.train"], 1e-4)


@pytest.mark.parametrize("literal", [False, True], ids=["fast", "literal"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cliplora_both_qkv_r2", {}),
        ("cliplora_vision_qkvo_r4", dict(ENCODER="vision", PARAMS=["q", "k", "v", "o"], R=4, ALPHA=2.0)),
        ("cliplora_text_qv_r2", dict(ENCODER="text", PARAMS=["q", "v"])),
    ],
)
def test_clip_lora(name, options, literal):
    model, golden, said = read(name, CLIPLoRA, DROPOUT=0.0, **options)
    chosen = CLIPLoRA.defaults | options
    assert (chosen["ENCODER"], chosen["PARAMS"]) == (said["encoder"], json.loads(said["params"]))
    assert (chosen["R"], chosen["ALPHA"]) == (int(said["r"]), float(said["alpha"]))
    model.literal = literal
    ours = {key: p for key, p in model.named_parameters() if p.requires_grad}

    def of(kind: str) -> dict:
        pairs = {key.removeprefix(kind): value for key, value in golden.items() if key.startswith(kind)}
        return {rename(key, model.renames): value for key, value in pairs.items() if "lora" in key}

    assert of("param.").keys() == ours.keys()
    for key, value in of("param.").items():
        ours[key].data.copy_(value)
    with torch.no_grad():
        close(model(golden["images"]), golden["logits"], 2e-4)
        close(model.infer(golden["images.test"]), golden["logits.test"], 2e-4)
    model.train()
    settings = json.loads(said["optim"])
    usual = {key: settings[key] for key in ("lr", "betas", "eps", "weight_decay")}
    optim = torch.optim.AdamW(ours.values(), **usual)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optim, settings["iterations"], settings["eta_min"])
    for step in range(int(said["steps"])):
        loss = model.losses(golden["images"], golden["labels"])[0]["ce"]
        optim.zero_grad()
        loss.backward()
        close(loss, golden["steps.loss"][step], 1e-4)
        for key, value in of("grad.").items() if step == 0 else ():
            near(ours[key].grad, value)
        optim.step()
        schedule.step()
    assert of("grad.").keys() == of("after3.").keys() == ours.keys()
    for key, value in of("after3.").items():
        near(ours[key], value)
    close(model.eval().infer(golden["images.test"]), golden["after3.logits.test"], 1e-3)


@pytest.mark.parametrize("name", ["cliplora_both_qkv_r2", "cliplora_vision_qkvo_r4"])
def test_clip_lora_s_own_file_loads(name, tmp_path):
    """Written in its layout: layers of the text tower first, matrices by part, the output projection as `proj`."""
    _, golden, said = read(name, CLIPLoRA)
    encoder, params, r = said["encoder"], json.loads(said["params"]), int(said["r"])
    options = dict(ENCODER=encoder, PARAMS=params, R=r, ALPHA=float(said["alpha"]), DROPOUT=0.0)
    blocks = [f"{tower}transformer.resblocks.{i}.attn" for tower in ("", "visual.") for i in range(3)]
    blocks = blocks[3:] if encoder == "vision" else blocks
    parts = ["proj" if part == "o" else f"{part}_proj" for part in params]
    matrices = ("w_lora_A", "w_lora_B")
    layers = {f"layer_{i}": {part: {m: golden[f"param.{block}.{part}.{m}"] for m in matrices} for part in parts}
              for i, block in enumerate(blocks)}  # fmt: skip
    told = {"r": r, "alpha": int(float(said["alpha"])), "encoder": encoder, "params": params, "position": "all"}
    torch.save({"weights": layers, "metadata": told}, tmp_path / "theirs.pt")
    trainer = CLIPLoRA.__new__(CLIPLoRA)
    trainer.model = read(name, CLIPLoRA, **options)[0]
    trainer.options = CfgNode(CLIPLoRA.defaults | options)
    trainer.load_weights(tmp_path / "theirs.pt")
    with torch.no_grad():
        close(trainer.model(golden["images"]), golden["logits"], 2e-4)
    for change, told_of in (({"alpha": 3}, "alpha 3, and here"), ({"position": "top3"}, "position top3, and here")):
        torch.save({"weights": layers, "metadata": told | change}, tmp_path / "other.pt")
        with pytest.raises(UserError, match=told_of):
            trainer.load_weights(tmp_path / "other.pt")
    wrong = [{"weights": layers, "metadata": None}, {"weights": [layers], "metadata": told}]
    extra = {"x_proj": layers["layer_0"]["q_proj"]}
    wrong += [{"weights": layers | {"layer_0": layers["layer_0"] | extra}, "metadata": told}]
    wrong += [{"weights": layers, "metadata": told | {"params": None}}]
    for other in wrong:
        torch.save(other, tmp_path / "other.pt")
        with pytest.raises(UserError, match="is not a file of CLIP-LoRA"):
            trainer.load_weights(tmp_path / "other.pt")
    del layers["layer_0"]
    torch.save({"weights": layers, "metadata": told}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=f"changes {len(blocks) - 1} blocks"):
        trainer.load_weights(tmp_path / "other.pt")


def test_clip_lora_drops_inputs_of_its_changes_in_training_alone():
    model, golden, _ = read("cliplora_both_qkv_r2", CLIPLoRA, DROPOUT=0.5)
    with torch.no_grad():
        at_first = model.train()(golden["images"])
        close(at_first, model.eval()(golden["images"]), 2e-4)  # B is zero
        for key, value in model.named_parameters():
            value.data += 0.1 * ("w_lora_B" in key)
        assert torch.equal(model(golden["images"]), model(golden["images"]))
        model.train()
        assert not torch.allclose(model(golden["images"]), model(golden["images"]))


@pytest.mark.parametrize("kind", sorted(TOWERS))
@pytest.mark.parametrize("literal", [False, True])
def test_clip_lora_begins_as_the_backbone_whatever_its_towers(kind, literal):
    clip = random_clip(kind=kind)
    wanted = text_features(clip, CLASSNAMES)
    model = CLIPLoRA.build(clip, Task(CLASSNAMES)).double().eval()
    model.literal = literal
    with torch.no_grad():
        text = F.normalize(model.text(torch.empty(0))[0], dim=-1)
    torch.testing.assert_close(text, wanted.to(text.dtype), rtol=1e-5, atol=1e-5)
