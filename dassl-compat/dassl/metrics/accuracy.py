from torch import Tensor


def compute_accuracy(output: Tensor | tuple | list, target: Tensor, topk: tuple[int, ...] = (1,)) -> list[Tensor]:
    """output (B, C), or a tuple that starts with it; target (B,) -> percent for each k, tensors of one value."""
    if isinstance(output, tuple | list):
        output = output[0]
    ranked = output.topk(min(max(topk), output.shape[1]), dim=1).indices  # (B, k)
    hits = ranked == target[:, None]
    return [100 * hits[:, :k].any(1).float().mean(0, keepdim=True) for k in topk]
