"""What a step asks of a device: kernels launched, and bytes moved outside matrix products; without a device too.

A launch is an operator of ATen that PyTorch dispatches below autograd and that writes numbers: it returns tensors, or
changes some in place, and is neither a view nor bare memory.  A GPU may run one as several kernels; a grouped one
(`_foreach_add_`) counts once, as an attention does where its kernel is fused.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "convolution", "attention")  # in the names of what the counter of FLOPs counts
BARE = ("empty", "_unsafe_view", "_reshape_alias")  # memory, or another look at it


class Launches(TorchDispatchMode):
    """Counts, while it is entered: `of` each operator, their sum `count`, and bytes `moved`."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[str] = Counter()
        self.moved = 0

    @property
    def count(self) -> int:
        return self.of.total()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        name, written = operation.overloadpacket.__name__, tensors(out)
        if operation.is_view or operation.namespace != "aten" or any(bare in name for bare in BARE):
            return out
        if written or operation._schema.is_mutable:
            self.of[name] += 1
            if not any(product in name for product in PRODUCTS):
                self.moved += sum(x.nbytes for x in tensors((args, kwargs)) + written)
        return out


def tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
