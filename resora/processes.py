"""Sums over the samples of all processes that share a batch, with gradients.

Each process computes the same penalty of the whole batch from its own part of the samples. The sum's
backward pass adds up the gradients of all processes' losses; data-parallel training then averages the
parameters' gradients over processes. Together that is the gradient of one process on the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def total(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """Return the sum of ``x`` over the processes of ``group``, differentiable; ``x`` if None."""
    if group is None:
        return x
    return _Total.apply(x, group)  # type: ignore[no-any-return]


def total_(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum ``x`` over the processes in place, outside of autograd."""
    if group is not None:
        dist.all_reduce(x, group=group)
    return x


def gather(
    z: Tensor, mask: Tensor | None, group: ProcessGroup | None
) -> tuple[Tensor, Tensor | None]:
    """Return the samples of all processes, differentiable.

    Processes may have different numbers of samples; shorter parts are padded and masked.

    Args:
        z: (L, N, r).
        mask: (L, N), True where a sample counts, or None.
        group: The processes; None returns the arguments.

    Returns:
        (L, N_all, r) and its mask, or None where all samples count.
    """
    if group is None:
        return z, mask
    size = torch.tensor([z.shape[-2], mask is not None], device=z.device)
    sizes = [torch.empty_like(size) for _ in range(group.size())]
    dist.all_gather(sizes, size, group=group)
    numbers = [int(n) for n, _ in sizes]
    longest = max(numbers)
    full = torch.nn.functional.pad(z, (0, 0, 0, longest - z.shape[-2]))
    # A sum of parts that are zero elsewhere is a gather, with the same rule for gradients.
    rank = dist.get_rank(group)
    parts = z.new_zeros(group.size(), *full.shape)
    parts = torch.index_copy(parts, 0, torch.tensor([rank], device=z.device), full[None])
    together = total(parts, group).movedim(0, -3).flatten(-3, -2)
    if len(set(numbers)) == 1 and not any(int(masked) for _, masked in sizes):
        return together, None
    if mask is None:
        mask = z.new_ones(z.shape[:-1], dtype=torch.bool)
    valid = torch.zeros(group.size(), *full.shape[:-1], dtype=torch.uint8, device=z.device)
    valid[rank, ..., : z.shape[-2]] = mask.to(torch.uint8)
    return together, total_(valid, group).movedim(0, -2).flatten(-2, -1).bool()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return total_(x.clone(), group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return total_(gradient.clone(), ctx.group), None
