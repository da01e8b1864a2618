"""Where class names attend through one kernel of a GPU, and what it is given.

It has the numbers of `attend`, its twin, and a tenth of the launches.  Triton compiles it when it is first wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from cilmp.clip.attention import Keys, merged
from cilmp.clip.packing import Packing

WIDTHS = 16, 32, 64  # of a head
MOST_TOKENS, MOST_ROWS, LONGEST = 128, 64, 32  # before a name, those they are mixtures of, of a name: a program's tiles


@lru_cache
def works(device: torch.device) -> bool:
    """Is it a GPU with Triton and with what that compiles by?"""
    if device.type != "cuda":
        return False
    try:
        from cilmp.clip import kernel

        x, k = torch.zeros(1, 1, 3, 1, 16, device=device), torch.zeros(1, 1, 1, 1, 16, device=device)
        place = torch.zeros(1, dtype=torch.long, device=device)
        kernel.Attend.apply(x, k, k, None, None, place, place + 1, 1, True)
    except Exception as error:  # whatever a compiler, a driver or an older Triton may say
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        print(f"Class names attend in many kernels instead of one, which is slower: Triton says {why}")
        return False
    return True


def fits(packing: Packing, keys: Sequence[Keys], width: int) -> bool:
    """keys: what stands before the names.  width: of a head."""
    tokens = sum(key.length for key in keys)
    rows = sum(key.k.shape[-2] for key in keys)
    sizes = ((packing.most, LONGEST), (rows, MOST_ROWS), (tokens, MOST_TOKENS))
    return width in WIDTHS and bool(keys) and all(size <= limit for size, limit in sizes)


def attend_names(qkv: Tensor, heads: int, packing: Packing, keys: Sequence[Keys], causal: bool) -> Tensor:
    """What `attend` finds, qkv (B or 1, N, 3 D) the projections of packed names, keys what stands before them ->
    (B, N, D)."""
    from cilmp.clip import kernel

    before = merged(keys)
    z = None if before.z is None else before.z.to(qkv.dtype)
    hidden = None if before.hidden is None else before.hidden[:, 0]
    place = packing.start, packing.count, packing.most
    k, v = before.k.to(qkv.dtype), before.v.to(qkv.dtype)
    return kernel.Attend.apply(qkv.unflatten(-1, (3, heads, -1)), k, v, z, hidden, *place, causal).flatten(-2)
