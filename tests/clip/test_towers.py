"""The towers against OpenAI's own model."""

import clip
import pytest
import torch
from models import CLASSNAMES, WORDS, openai_clip, random_clip
from torch import nn

from cilmp.clip import build, literal
from cilmp.clip.attention import Keys, attend, join_heads, split_heads
from cilmp.clip.block import Block, LayerNorm
from cilmp.clip.lowrank import LowRank
from cilmp.prompts import ClassPrompts


@pytest.mark.parametrize("vision_layers", [2, (1, 1, 1, 1)], ids=["vit", "resnet"])
def test_towers_equal_openai(vision_layers):
    theirs = openai_clip(vision_layers)
    heads = (1, 2) if isinstance(vision_layers, int) else (0, 2)
    ours = build.openai(theirs.state_dict(), heads)
    image = torch.randn(3, 3, 32, 32)
    texts = ["a photo of a cat.", "normal", " ".join(WORDS * 3)]
    tokens = clip.tokenize(texts)
    assert torch.equal(ours.tokenize(texts), tokens.long())
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(image), theirs.encode_image(image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), rtol=1e-4, atol=1e-5)
    weights = theirs.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in ours.openai_state_dict().items())


@pytest.mark.parametrize("trained", [False, True])
def test_mlp_of_quick_gelu_and_its_gradients(trained):
    torch.manual_seed(0)
    block = Block(6, 2).double().requires_grad_(trained)
    first, second = block.mlp["c_fc"], block.mlp["c_proj"]
    x = (torch.randn(2, 3, 6, dtype=torch.float64) * 4).requires_grad_()
    h = first(x)
    exact, asked = second(h * torch.sigmoid(1.702 * h)), [x, *(block.mlp.parameters() if trained else ())]
    torch.testing.assert_close(block.think(x), exact)
    weights = torch.randn_like(exact)
    slopes = [torch.autograd.grad((y * weights).sum(), asked) for y in (block.think(x), exact)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


class Doubled(nn.Linear):
    """A layer in the place of another, with its weights and more."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_an_mlp_whose_layers_somebody_changed_runs_them():
    block, x = Block(6, 2), torch.randn(2, 3, 6)
    before, second = block.think(x), block.mlp["c_proj"]
    block.mlp["c_proj"] = Doubled(24, 6)
    block.mlp["c_proj"].load_state_dict(second.state_dict())
    torch.testing.assert_close(block.think(x), 2 * before)
    block.mlp["c_proj"] = second
    seen = []
    second.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(block.think(x), before)
    assert seen and block.think(x[:0]).shape == (0, 3, 6)


def test_a_half_precision_norm_of_loud_tokens_is_finite():
    norm, x = LayerNorm(8).half(), torch.randn(3, 8) * 1e6  # beyond half precision
    torch.testing.assert_close(norm(x), nn.functional.layer_norm(x, (8,)))
    assert norm(x.half().clamp(-6e4, 6e4)).dtype == torch.float16


def low(r: int, width: int, **options) -> LowRank:
    return LowRank(torch.randn(2, 3, 3, r, dtype=torch.float64), torch.randn(width, r, dtype=torch.float64), **options)


@pytest.mark.parametrize("kind", ["openai", "normed", "biomedclip", "siglip"])
def test_writes_of_any_shape_before_any_block_equal_the_literal_tower(kind):
    """Alike in all blocks, in some, in none: whether keys are known ahead for all of them makes no difference."""
    clip = random_clip(2, 5, 1, kind=kind)
    width, prompts = clip.text.width, ClassPrompts(clip, CLASSNAMES, 2, "", [3, 2, 3])
    ctx, llm = prompts.index("ctx"), prompts.index("llm")

    def tokens(*lead):
        return torch.randn(*lead, 2, width, dtype=torch.float64)

    shared, of_class, loud = tokens(1, 1), tokens(1, 3), LayerNorm(width).double()
    every = [
        [{ctx: tokens(1, 1), llm: low(2, width)} for _ in range(4)],
        [{ctx: tokens(2, 3), llm: tokens(1, 1)[:, :, [0, 1, 1]]} for _ in range(3)],
        [{ctx: shared, llm: low(2, width)}, {ctx: of_class, llm: low(1, width)}, {ctx: shared, llm: low(2, width)}],
        [{ctx: shared, llm: low(2, width, norm=loud)} for _ in range(4)],
        [{ctx: shared, llm: low(2, width, offset=tokens(1, 3)[:, :, [0, 1, 1]])} for _ in range(4)],
        [{ctx: shared}, {}, {llm: low(2, width)}, {ctx: shared, llm: low(2, width)}],
        [{0: tokens(1, 1)[:, :, :1], ctx: shared} for _ in range(4)],
    ]
    for deep in every:
        start = prompts(tokens(1, 1)[0, 0], low(2, width)), prompts.eot, [{}, *deep]
        with torch.no_grad():
            torch.testing.assert_close(
                clip.text(*start), literal.encode_text(clip.text, *start), rtol=1e-10, atol=1e-10
            )


def test_half_precision_does_not_overflow_before_the_scale():
    y = torch.cat([torch.full((1, 1, 3, 128), 40.0), torch.randn(1, 1, 3, 64)], dim=-1)  # 40 * 40 * 64 > 65504
    q, k, v = split_heads(y.half(), 1, 3)
    exact = nn.functional.scaled_dot_product_attention(*y.split(64, dim=-1))
    torch.testing.assert_close(join_heads(attend(q, [Keys(k, v)])).float(), exact, rtol=2e-3, atol=2e-3)
