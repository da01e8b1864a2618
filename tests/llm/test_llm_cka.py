import torch

from cilmp.llm.cka import between_layers, linear_cka
from cilmp.llm.show import similarity


def by_definition(x, y):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), HSIC(K, L) = tr(K H L H) / (n - 1)^2, with linear kernels."""
    n = len(x)
    H = torch.eye(n, dtype=x.dtype) - 1 / n

    def hsic(K, L):
        return torch.trace(K @ H @ L @ H) / (n - 1) ** 2

    K, L = x @ x.T, y @ y.T
    return float(hsic(K, L) / (hsic(K, K) * hsic(L, L)).sqrt())


def test_is_its_definition_through_hsic():
    torch.manual_seed(0)
    for n, p, q in ((5, 3, 7), (4, 64, 64), (30, 6, 2)):
        x, y = torch.randn(n, p, dtype=torch.float64) + 3, torch.randn(n, q, dtype=torch.float64)
        assert abs(linear_cka(x, y) - by_definition(x, y)) < 1e-12
        assert abs(linear_cka(x, x) - 1) < 1e-12


def test_invariant_to_rotation_and_scale_but_not_to_any_linear_map():
    torch.manual_seed(1)
    x, y = torch.randn(10, 6, dtype=torch.float64), torch.randn(10, 8, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    value = linear_cka(x, y)
    assert abs(linear_cka(-0.3 * x @ rotation + 5, y) - value) < 1e-12
    assert abs(linear_cka(x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1]).double()), y) - value) > 1e-3


def test_between_layers_is_pairwise():
    torch.manual_seed(2)
    states = torch.randn(7, 4, 16)
    heat = between_layers(states)
    for i in range(4):
        for j in range(4):
            assert abs(float(heat[i, j]) - linear_cka(states[:, i], states[:, j])) < 1e-6


def test_similarity_of_classes_is_not_hidden_by_what_they_share():
    torch.manual_seed(3)
    a, b = torch.randn(2, 8)
    states = torch.stack([a, a + 0.01, 2 * b, -2 * b])[:, None] + torch.tensor([1000.0] + [0.0] * 7)
    like = similarity(states)[0]
    assert like[0, 1] > 0.99 and like[2, 3] < 0
