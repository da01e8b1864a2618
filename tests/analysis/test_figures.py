"""The figures' numbers against arithmetic done here."""

import pytest
import torch

from cilmp.analysis import flops

pytestmark = pytest.mark.slow  # towers of full size


@pytest.fixture(scope="module")
def clip():
    return flops.vit_b16()


def test_flops_of_vit_b16_are_those_of_its_formula(clip):
    """Two per multiply-add: 12 blocks of 197 tokens (12 D^2 a token, 2 n D for attention), patches, projection."""
    model = flops.build("ZeroshotCLIP", clip, list(flops.CLASSES))
    n, width = 197, 768
    blocks = 12 * n * (12 * width**2 + 2 * n * width)
    expected = 2 * (blocks + 196 * width * 3 * 16 * 16 + width * 512 + 2 * 512)
    model.literal = True
    counted = flops.cost(model, "features")
    assert counted == {"forward": pytest.approx(expected / 1e9, rel=1e-3), "step": None}
    model.literal = False
    assert flops.cost(model, "features")["forward"] < counted["forward"]


def test_parameters_on_the_adam_setting(clip):
    """CILMP with LLaMA3-8B's states has the authors' 3.85 M; CoOp has four tokens of 512."""
    import cilmp.trainers  # noqa: F401

    sizes = {}
    for name in ("CoOp", "CILMP"):
        model = flops.build(name, clip, list(flops.CLASSES))
        sizes[name] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    gate = 512 * 8 + 8 + 8 * 4096 + 4096
    intervention = 4096 * 8 + 8 * 2 * 4096 + 8 + gate
    assert sizes == {"CoOp": 4 * 512, "CILMP": 12 * (2 * intervention + 8 * (4096 + 512) + 4 * 512 + 4 * 768)}


def test_tsne_keeps_clusters_apart():
    from cilmp.analysis.tsne import embed

    torch.manual_seed(0)
    features = torch.nn.functional.normalize(
        torch.eye(3).repeat_interleave(15, 0) @ torch.randn(3, 16) + 0.05 * torch.randn(45, 16)
    )
    points = torch.from_numpy(embed(features.numpy(), 30, 0))
    near = torch.cdist(points, points).fill_diagonal_(float("inf")).argmin(1)
    assert (near // 15 == torch.arange(45) // 15).all()
