"""The fast path against its literal twin, for random towers, class names and options."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CLASSNAMES, TOWERS, WORDS, openai_clip, random_clip
from torch import nn

from cilmp.clip import CLIP, build
from cilmp.intervention import INTERVENTIONS
from cilmp.trainers import method as methods
from cilmp.trainers.cilmp import CILMP
from cilmp.trainers.cocoop import CoCoOp
from cilmp.trainers.coop import CoOp
from cilmp.trainers.ivlp import IVLP
from cilmp.trainers.maple import MaPLe
from cilmp.trainers.method import Task
from cilmp.trainers.promptsrc import PromptSRC
from cilmp.trainers.tcp import TCP

pytestmark = pytest.mark.slow  # random towers, many times; golden numbers hold both paths in the fast tier


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


names = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=40)
few = st.integers(1, 3)
towers = st.builds(random_clip, few, few, few, st.integers(0, 99), st.sampled_from(sorted(TOWERS)))
relaxed = settings(max_examples=50, deadline=None, derandomize=True)


def batch(model: CLIP, size: int, classes: int):
    return torch.randn(size, 3, 32, 32, dtype=torch.float64), torch.randint(classes, (size,))


@relaxed
@given(towers, names, st.data())
def test_cilmp_fast_equals_literal(model, classnames, data):
    p, s, ragged = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)), data.draw(st.booleans())
    least = max(1, p + s)
    sizes = [data.draw(st.integers(least, 12)) if ragged or i == 0 else 0 for i in range(len(classnames))]
    sizes = [size or sizes[0] for size in sizes]
    if data.draw(st.booleans()):  # fill the context to its last position
        taken = 5 + max(len(ids) for ids in map(model.tokenizer.encode, [f"{n}." for n in classnames])) - 1
        sizes[sizes.index(max(sizes))] = 77 - taken
    states = [torch.randn(size, 20).double() for size in sizes]
    options = dict(PREFIX_LENGTH=p, SUFFIX_LENGTH=s, DROPOUT=0.0)
    options["LOW_RANK_DIMENSION"] = data.draw(st.integers(1, 5))
    options["PROMPT_DEPTH_TEXT"] = data.draw(st.integers(1, model.text.depth))
    options["PROMPT_DEPTH_VISION"] = data.draw(st.integers(1, model.visual.depth))
    options["INTERVENTION"] = data.draw(st.sampled_from(sorted(INTERVENTIONS)))
    method = CILMP.build(model, Task(classnames, states=states), **options).double().train()
    method.norm_prompts = data.draw(st.booleans())
    compare(method, *batch(model, data.draw(st.integers(1, 3)), len(classnames)))


@relaxed
@given(towers, names, st.sampled_from(["end", "middle", "front"]), st.booleans(), st.integers(1, 6))
def test_coop_fast_equals_literal(model, classnames, position, csc, n):
    method = CoOp.build(model, Task(classnames), N_CTX=n, CSC=csc, CLASS_TOKEN_POSITION=position)
    compare(method.double().train(), *batch(model, 2, len(classnames)))


@relaxed
@given(towers, names, st.integers(1, 4), st.data())
def test_cocoop_and_maple_fast_equal_literal(model, classnames, n, data):
    meta = CoCoOp.build(model, Task(classnames), N_CTX=n)
    meta.meta_net = nn.Sequential(nn.Linear(model.embed, 3), nn.ReLU(), nn.Linear(3, model.text.width))
    compare(meta.double().train(), *batch(model, 2, len(classnames)))
    depth = data.draw(st.integers(1, min(model.text.depth, model.visual.depth)))
    method = MaPLe.build(model, Task(classnames), N_CTX=n, PROMPT_DEPTH=depth)
    compare(method.double().train(), *batch(model, 2, len(classnames)))


@relaxed
@given(towers, names, st.integers(1, 6), st.data())
def test_deep_prompts_and_class_tokens_fast_equal_literal(model, classnames, n, data):
    depths = data.draw(st.integers(1, model.text.depth)), data.draw(st.integers(0, model.visual.depth))
    options = dict(N_CTX_TEXT=n, N_CTX_VISION=2, PROMPT_DEPTH_TEXT=depths[0], PROMPT_DEPTH_VISION=depths[1])
    method = PromptSRC.build(model, Task(classnames), TEMPLATES=("a {}.", "the {}."), **options)
    method.norm_prompts = data.draw(st.booleans())
    compare(method.double().train(), *batch(model, 2, len(classnames)))
    if model.text.depth > 1:
        options = dict(N_CTX=n, TEMPLATE="a {}, seen.", CLASS_DEPTH=data.draw(st.integers(1, model.text.depth - 1)))
        method = TCP.build(model, Task(classnames), **options)
        compare(method.double().train(), *batch(model, 2, len(classnames)))


@pytest.mark.parametrize("kind", sorted(TOWERS))
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_prompts_of_some_blocks_and_of_all(kind, depth):
    clip = random_clip(2, 5, 2, kind=kind)
    options = dict(N_CTX_TEXT=2, PROMPT_DEPTH_TEXT=depth, PROMPT_DEPTH_VISION=1)
    task = Task(CLASSNAMES, states=[torch.randn(size, 20).double() for size in (7, 9, 7)])
    own = options | dict(DROPOUT=0.0, PREFIX_LENGTH=1, SUFFIX_LENGTH=3)
    compare(CILMP.build(clip, task, **own).double().train(), *batch(clip, 3, 3))
    compare(IVLP.build(clip, Task(CLASSNAMES), **options).double().train(), *batch(clip, 3, 3))


@pytest.mark.parametrize("kind", ["openai", "biomedclip"])
def test_deep_prompts_pass_the_norm_of_a_post_norm_stream(kind):
    """As if what is written had been normalised by hand with the LayerNorm ahead of its block, and nothing else."""
    clip = random_clip(2, 3, 3, kind=kind)
    task = Task(CLASSNAMES)
    method = IVLP.build(clip, task, PROMPT_DEPTH_TEXT=3, PROMPT_DEPTH_VISION=1).double().eval()
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        normed = method(image)
        method.norm_prompts = False
        plain = method(image)
        for block, ctx in zip(clip.text.transformer.blocks, method.ctx[1:], strict=False):
            ctx.data = block.ln_2(ctx)
        by_hand = method(image)
    if kind == "openai":
        assert torch.equal(normed, plain)
    else:
        torch.testing.assert_close(normed, by_hand, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(normed, plain, rtol=1e-3)


@pytest.mark.parametrize("literal", [False, True])
def test_evaluation_does_not_depend_on_its_chunks(monkeypatch, literal):
    clip = random_clip()
    task = Task(CLASSNAMES, states=[torch.randn(12, 20) for _ in CLASSNAMES])
    method = CILMP.build(clip, task, PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=2).double().eval()
    method.literal = literal
    image, _ = batch(clip, 5, 3)
    whole = method(image).detach()
    sizes = []
    for size in (1, 1 << 30):
        monkeypatch.setattr(methods, "EVAL_BYTES", size)
        sizes.append(method.images_at_once())
        torch.testing.assert_close(method.infer(image), whole, rtol=1e-10, atol=1e-10)
    assert sizes[0] == 1 and sizes[1] >= 5


@pytest.mark.parametrize("kind", ["openai", "biomedclip", "siglip"])
def test_fast_path_in_single_precision(kind):
    """float32: 1e-5 in the logits, 1e-4 relative in the gradients, at rank 8 and the authors' prompt sizes."""
    torch.manual_seed(0)
    model = build.openai(openai_clip(3).state_dict(), (1, 1))
    if kind != "openai":
        model = random_clip(4, 3, 3, kind=kind).float()
    task = Task(CLASSNAMES, states=[torch.randn(32, 256) for _ in CLASSNAMES])
    method = CILMP.build(model, task, DROPOUT=0.0, PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=3).train()
    compare(method, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), logits=1e-5, gradients=1e-4)


def test_half_precision():
    torch.manual_seed(0)
    exact = openai_clip(3).state_dict()
    image, label = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    task, found = Task(CLASSNAMES, states=[torch.randn(32, 256) for _ in CLASSNAMES]), []
    for precision in ("fp32", "bf16", "amp"):
        model = build.openai(exact, (1, 1)).cast(precision)
        torch.manual_seed(1)
        method = CILMP.build(model, task, DROPOUT=0.0, PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=3).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
            losses, logits = method.losses(image, label)
            loss = sum(losses.values())
        loss.backward()
        found.append((logits.detach().float(), method.layers[1].lora_proj.lora_A.grad))
    (scores, grad), *halves = found
    for there, slope in halves:
        assert (there - scores).abs().max() < 2**-8 * model.logit_scale.exp()  # cosines to bf16's eight bits
        assert slope.dtype == grad.dtype and (slope - grad).norm() < 0.1 * grad.norm()
