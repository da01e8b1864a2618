"""The towers against OpenAI's own model, and the fast path against its literal twin."""

import math

import clip.model
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from yacs.config import CfgNode

from cilmp import packing
from cilmp.attention import Keys, attend, with_heads_first
from cilmp.clip import CLIP
from cilmp.encoders import ImageTower, TextTower
from cilmp.intervention import INTERVENTIONS, draw
from cilmp.trainers import base
from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.cocoop import CoCoOp
from cilmp.trainers.coop import CoOp
from cilmp.trainers.maple import MaPLe

WORDS = "normal viral bacterial pneumonia adenocarcinoma in situ with glaucoma hemorrhage nevus".split()


def openai_clip(vision_layers=2) -> clip.model.CLIP:
    torch.manual_seed(0)
    vision = 64 if isinstance(vision_layers, int) else 8
    model = clip.model.CLIP(48, 32, vision_layers, vision, 16, 77, 49408, 64, 2, 2)
    for name, value in model.state_dict().items():  # the zeros and ones of a fresh model would hide mistakes
        if value.is_floating_point() and "running_var" not in name and "logit_scale" not in name:
            value.add_(torch.randn_like(value) * 0.05)
    return model.eval()


@pytest.mark.parametrize("vision_layers", [2, (1, 1, 1, 1)], ids=["vit", "resnet"])
def test_towers_equal_openai(vision_layers):
    theirs = openai_clip(vision_layers)
    heads = (1, 2) if isinstance(vision_layers, int) else (None, 2)
    ours = CLIP.from_state_dict(theirs.state_dict(), heads)
    image = torch.randn(3, 3, 32, 32)
    tokens = clip.tokenize(["a photo of a cat.", "normal", " ".join(WORDS * 3)])
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), rtol=1e-4, atol=1e-5)
    weights = theirs.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in ours.openai_state_dict().items())


def random_clip(heads: int, text_layers: int, image_layers: int, seed: int) -> CLIP:
    torch.manual_seed(seed)
    width = 8 * heads
    visual = ImageTower(32, 16, width + 8, image_layers, 1, 12)
    model = CLIP(visual, TextTower(width, text_layers, heads, 77, 12), 49408).double()
    for parameter in model.parameters():
        if parameter.dim():
            parameter.data.normal_(std=0.3)
    return model.eval()


def compare(model: nn.Module, image, label, logits=1e-10, gradients=1e-8) -> None:
    results = []
    for literal in (True, False):
        model.literal = literal
        model.zero_grad()
        losses, scores = model.losses(image, label)
        sum(losses.values()).backward()
        results.append((scores.detach(), {k: p.grad for k, p in model.named_parameters() if p.grad is not None}))
    (slow, slow_grads), (fast, fast_grads) = results
    assert (slow - fast).abs().max() <= logits * max(1.0, float(slow.abs().max()))
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    assert set(slow_grads) == set(fast_grads) == trained
    for key, grad in slow_grads.items():
        assert (grad - fast_grads[key]).norm() <= gradients * grad.norm() + 1e-12, key


def grouped(tokens: int):
    """Attention's groups of classes, smaller than a user's, so that a small example has several."""
    packing.GROUP_TOKENS = tokens
    return tokens


groups = st.sampled_from([1, 9, 128]).map(grouped)
names = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=40)
towers = st.builds(random_clip, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
relaxed = settings(max_examples=25, deadline=None, derandomize=True)


def batch(model: CLIP, size: int, classes: int):
    return torch.randn(size, 3, 32, 32, dtype=torch.float64), torch.randint(classes, (size,))


@relaxed
@given(groups, towers, names, st.data())
def test_cilmp_fast_equals_literal(group, model, classnames, data):
    p, s, ragged = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)), data.draw(st.booleans())
    least = max(1, p + s)
    sizes = [data.draw(st.integers(least, 12)) if ragged or i == 0 else 0 for i in range(len(classnames))]
    sizes = [size or sizes[0] for size in sizes]
    if data.draw(st.booleans()):  # fill the context to its last position
        taken = 5 + max(len(ids) for ids in model.tokenize([f"{n}." for n in classnames], cut=False)) - 1
        sizes[sizes.index(max(sizes))] = 77 - taken
    states = [torch.randn(size, 20).double() for size in sizes]
    options = CfgNode(CILMP.defaults)
    options.PREFIX_LENGTH, options.SUFFIX_LENGTH, options.DROPOUT = p, s, 0.0
    options.LOW_RANK_DIMENSION = data.draw(st.integers(1, 5))
    options.PROMPT_DEPTH_TEXT = data.draw(st.integers(1, model.text.depth))
    options.PROMPT_DEPTH_VISION = data.draw(st.integers(1, model.visual.depth))
    options.INTERVENTION = data.draw(st.sampled_from(sorted(INTERVENTIONS)))
    method = CILMP.method(model, classnames, options, states).double().train()
    compare(method, *batch(model, data.draw(st.integers(1, 3)), len(classnames)))


@relaxed
@given(groups, towers, names, st.sampled_from(["end", "middle", "front"]), st.booleans(), st.integers(1, 6))
def test_coop_fast_equals_literal(group, model, classnames, position, csc, n):
    options = CfgNode(CoOp.defaults | dict(N_CTX=n, CSC=csc, CLASS_TOKEN_POSITION=position))
    compare(CoOp.method(model, classnames, options).double().train(), *batch(model, 2, len(classnames)))


@relaxed
@given(groups, towers, names, st.integers(1, 4), st.data())
def test_cocoop_and_maple_fast_equal_literal(group, model, classnames, n, data):
    options = CfgNode(CoCoOp.defaults | dict(N_CTX=n))
    model.text.text_projection.data = model.text.text_projection.data[:, :12]
    meta = CoCoOp.method(model, classnames, options)
    meta.meta_net = nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, model.text.width))
    compare(meta.double().train(), *batch(model, 2, len(classnames)))
    depth = data.draw(st.integers(1, min(model.text.depth, model.visual.depth)))
    options = CfgNode(MaPLe.defaults | dict(N_CTX=n, PROMPT_DEPTH=depth))
    compare(MaPLe.method(model, classnames, options).double().train(), *batch(model, 2, len(classnames)))


@pytest.mark.parametrize("literal", [False, True])
def test_evaluation_does_not_depend_on_its_chunks(monkeypatch, literal):
    clip, classnames = random_clip(2, 2, 2, 0), ["normal", "viral pneumonia", "adenocarcinoma in situ"]
    options = CfgNode(CILMP.defaults | dict(PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2))
    method = CILMP.method(clip, classnames, options, [torch.randn(12, 20) for _ in classnames]).double().eval()
    method.literal = literal
    image, _ = batch(clip, 5, 3)
    whole = method(image).detach()
    sizes = []
    for size in (1, 1 << 30):
        monkeypatch.setattr(base, "EVAL_BYTES", size)
        sizes.append(method.images_at_once())
        torch.testing.assert_close(method.infer(image), whole, rtol=1e-10, atol=1e-10)
    assert sizes[0] == 1 and sizes[1] >= 5


def test_fast_path_in_single_precision():
    """float32: 1e-5 in the logits, 1e-4 relative in the gradients, at rank 8 and the authors' prompt sizes."""
    torch.manual_seed(0)
    model = CLIP.from_state_dict(openai_clip(3).state_dict(), (1, 1))
    options = CfgNode(CILMP.defaults | dict(DROPOUT=0.0, PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=3))
    classnames = ["normal", "viral pneumonia", "adenocarcinoma in situ"]
    method = CILMP.method(model, classnames, options, [torch.randn(32, 256) for _ in classnames]).train()
    compare(method, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), logits=1e-5, gradients=1e-4)


def test_half_precision():
    torch.manual_seed(0)
    exact = openai_clip(3).state_dict()
    image, label = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    classnames = ["normal", "viral pneumonia", "adenocarcinoma in situ"]
    states, found = [torch.randn(32, 256) for _ in classnames], []
    for precision in ("fp32", "bf16", "amp"):
        model = CLIP.from_state_dict(exact, (1, 1)).cast(precision)
        options = CfgNode(CILMP.defaults | dict(DROPOUT=0.0, PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=3))
        torch.manual_seed(1)
        method = CILMP.method(model, classnames, options, states).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
            losses, logits = method.losses(image, label)
            loss = sum(losses.values())
        loss.backward()
        found.append((logits.detach().float(), method.layers[1].lora_proj.lora_A.grad))
    (scores, grad), *halves = found
    for there, slope in halves:
        assert (there - scores).abs().max() < 0.03 * scores.abs().max()
        assert slope.dtype == grad.dtype and (slope - grad).norm() < 0.1 * grad.norm()


def test_half_precision_does_not_overflow_before_the_scale():
    y = torch.cat([torch.full((1, 1, 3, 128), 40.0), torch.randn(1, 1, 3, 64)], dim=-1)  # 40 * 40 * 64 > 65504
    q, k, v = with_heads_first(y.half(), 1, 3)
    exact = nn.functional.scaled_dot_product_attention(*y.split(64, dim=-1))
    torch.testing.assert_close(attend(q, [Keys(k, v)])[0].float(), exact, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", sorted(INTERVENTIONS))
def test_folded_dropout_is_the_equation_with_a_shared_mask(kind):
    torch.manual_seed(0)
    modules = [INTERVENTIONS[kind](16, 6, 3, 0.4).double().train() for _ in range(2)]
    h, f, A = torch.randn(5, 2, 16).double(), torch.randn(4, 6).double(), torch.randn(2, 3, 16).double()
    torch.manual_seed(1)
    folded = type(modules[0]).folded(modules, h, f, A)  # (K, B or 1, C, n, a)
    torch.manual_seed(1)
    keeps = draw((2, 10, 16), 0.6, h.device).view(2, 5, 2, 16) / 0.6 if kind != "none" else torch.ones(2, 5, 2, 16)
    for module, keep, projection, fast in zip(modules, keeps, A, folded, strict=True):
        slow = (module.eval()(h, f) * keep) @ projection.T  # (B or 1, C, n, a)
        fast, slow = (y.expand(4, -1, -1, -1) for y in (fast, slow))
        torch.testing.assert_close(fast, slow)
        if kind == "none":
            continue  # nothing is learned
        trained = [p for p in module.parameters() if p.requires_grad]
        for here, there in zip(
            *(torch.autograd.grad(y.square().sum(), trained, retain_graph=True) for y in (fast, slow)), strict=True
        ):
            torch.testing.assert_close(here, there)


def test_dropout_keeps_its_share():
    kept = draw((3, 700, 501), 0.9, torch.device("cpu"))
    assert kept.shape == (3, 700, 501) and abs(kept.double().mean().item() - 0.9) < 5 * (0.09 / kept.numel()) ** 0.5
    assert not torch.equal(kept[0], kept[1])


def test_rotation_starts_orthogonal():
    R = INTERVENTIONS["conditional"](32, 8, 4).rotation()
    torch.testing.assert_close(R.T @ R, torch.eye(4))


def test_gaussian_average_is_the_weighted_sum():
    from cilmp.averaging import GaussianAverage

    values = torch.randn(5, 3)
    average = GaussianAverage({"ctx.0": values[0]}, mean=4, std=2, epochs=5)
    weights = torch.tensor([math.exp(-0.5 * ((e - 4) / 2) ** 2) for e in range(1, 6)])
    for epoch, value in enumerate(values, 1):
        average.add({"ctx.0": value}, epoch)
    result = {"ctx.0": torch.empty(3)}
    average.load_into(result)
    torch.testing.assert_close(result["ctx.0"], (weights / weights.sum()) @ values)
