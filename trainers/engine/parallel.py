"""One run on several GPUs: `torchrun --nproc-per-node 2 train.py ...`, each process with BATCH_SIZE images a step.

The result is that of one process with the batches joined, to rounding.  The first process alone writes and tests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from cilmp.errors import UserError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what it sets for each process


class Losses(nn.Module):
    """A method's losses as a forward pass, which is what DistributedDataParallel watches."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, label: Tensor):
        return self.model.losses(image, label)


def size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if size() > 1 else 0


def start() -> None:
    """Join the processes torchrun announces; all but the first fall silent."""
    if announced() < 2:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends


def announced() -> int:
    """How many processes torchrun started; a cluster's WORLD_SIZE without a RANK, or empty, speaks of others."""
    if not os.environ.get("RANK") or os.environ.get("WORLD_SIZE", "") in ("", "1"):
        return 1
    told = {name: os.environ.get(name, "") for name in TORCHRUN}
    if any(not value or name != "MASTER_ADDR" and not value.isdigit() for name, value in told.items()):
        shown = ", ".join(f"{name}='{value}'" for name, value in told.items())
        raise UserError(f"{shown}: torchrun sets all of them; start with torchrun, or without RANK for one process.")
    return int(told["WORLD_SIZE"])


def stop() -> None:
    if size() > 1:
        dist.destroy_process_group()


def wrap(model: nn.Module) -> nn.Module:
    """Called as (image, label) it gives the losses, and backward averages the gradients of all processes."""
    return DistributedDataParallel(Losses(model), broadcast_buffers=False)


def mean(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Over all processes, of gradients that backward did not see."""
    for tensor in tensors if size() > 1 else ():
        dist.all_reduce(tensor)
        tensor /= size()
    return tensors


def share(loader: DataLoader, seed: int) -> DataLoader:
    """The same images in the same batch size, dealt out among the processes."""
    sampler = DistributedSampler(loader.dataset, size(), rank(), shuffle=True, seed=max(seed, 0))
    workers = dict(num_workers=loader.num_workers, persistent_workers=loader.persistent_workers)
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        sampler=sampler,
        drop_last=len(sampler) >= loader.batch_size,
        pin_memory=loader.pin_memory,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        **workers,
    )
