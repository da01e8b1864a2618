"""The towers against OpenAI's own model."""

import clip
import pytest
import torch
from models import WORDS, openai_clip
from torch import nn

from cilmp.clip import build
from cilmp.clip.attention import Keys, attend, join_heads, split_heads
from cilmp.clip.block import Block


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


def test_half_precision_does_not_overflow_before_the_scale():
    y = torch.cat([torch.full((1, 1, 3, 128), 40.0), torch.randn(1, 1, 3, 64)], dim=-1)  # 40 * 40 * 64 > 65504
    q, k, v = split_heads(y.half(), 1, 3)
    exact = nn.functional.scaled_dot_product_attention(*y.split(64, dim=-1))
    torch.testing.assert_close(join_heads(attend(q, [Keys(k, v)])).float(), exact, rtol=2e-3, atol=2e-3)
