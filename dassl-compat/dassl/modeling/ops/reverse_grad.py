from torch import Tensor, nn
from torch.autograd import Function


class _ReverseGrad(Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


reverse_grad = _ReverseGrad.apply


class ReverseGrad(nn.Module):
    """The identity, whose gradient is turned round and scaled."""

    def forward(self, x: Tensor, grad_scaling: float = 1.0) -> Tensor:
        if grad_scaling < 0:
            raise ValueError(f"grad_scaling is at least 0, not {grad_scaling}")
        return reverse_grad(x, grad_scaling)
