"""The pairwise Euclidean proximity (Eq. 5) of many samples, in pieces that stay in the cache.

|dh_i - dh_j|^2 = G_ii z_i^2 + G_jj z_j^2 - 2 G_ij z_i z_j with the Gram G of the directions. One pass over
the samples computes the value and the gradients. Between forward and backward only the gradients with respect
to z and G are saved, not one number for each sample and pair.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from resora.processes import total_

# Elements of one intermediate, (modules, N, pairs): on a CPU it fits the second-level cache; on a GPU there
# are few kernel launches, and it takes little memory.
PIECE = {"cpu": 2**16, "cuda": 2**22}


def proximity(
    z: Tensor,
    b: Tensor,
    mask: Tensor | None,
    count: Tensor,
    beta: float | None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Return mean_n, sum over pairs of exp(-beta |dh_i^n - dh_j^n|^2).

    Args:
        z: (L, N, r), zero where masked.
        b: (L, r, d).
        mask: (L, N) or None.
        count: (L,), the number of samples that count, over all processes.
        beta: The factor, or None for one over the mean squared distance of each module.
        group: Processes whose samples belong together.

    Returns:
        (L,).
    """
    return _Proximity.apply(z, b, mask, count, beta, group)  # type: ignore[no-any-return]


class _Pairs(NamedTuple):
    i: Tensor
    j: Tensor
    of_i: Tensor  # (P, r), one where pair p has i as its first subspace
    of_j: Tensor


class _Proximity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        b: Tensor,
        mask: Tensor | None,
        count: Tensor,
        beta: float | None,
        group: ProcessGroup | None,
    ) -> Tensor:
        gram = b @ b.mT
        pairs = _pairs(z)
        factor = _factor(z, gram, count, beta, group)
        needs_gradient = any(ctx.needs_input_grad)
        value = z.new_zeros(len(z))
        dz = torch.empty_like(z) if needs_gradient else z.new_empty(0)
        dgram = torch.zeros_like(gram)
        size = max(1, PIECE.get(z.device.type, PIECE["cuda"]) // max(1, z.shape[1] * len(pairs.i)))
        for start in range(0, len(z), size):
            rows = slice(start, start + size)
            weights = None if mask is None else mask[rows, :, None].to(z.dtype)
            found = _piece(z[rows], gram[rows], factor[rows], weights, pairs, needs_gradient)
            value[rows] = found[0]
            if needs_gradient:
                dz[rows], dgram[rows] = found[1:]
        # The Gram is symmetric, and its gradient enters twice.
        db = (dgram + dgram.mT) @ b / count[:, None, None] if needs_gradient else b.new_empty(0)
        ctx.save_for_backward(dz.div_(count[:, None, None]) if needs_gradient else dz, db)
        ctx.group = group
        return total_(value, group) / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dz, db = ctx.saved_tensors
        scale = total_(gradient.clone(), ctx.group)[:, None, None]
        return scale * dz, scale * db, None, None, None, None


def _pairs(z: Tensor) -> _Pairs:
    rank = z.shape[-1]
    i, j = torch.triu_indices(rank, rank, offset=1, device=z.device)
    one = torch.eye(rank, dtype=z.dtype, device=z.device)
    return _Pairs(i, j, one[i], one[j])


def _factor(
    z: Tensor, gram: Tensor, count: Tensor, beta: float | None, group: ProcessGroup | None
) -> Tensor:
    """Return beta of each module, (L,)."""
    if beta is not None:
        return z.new_full((len(z),), beta)
    rank = z.shape[-1]
    norms = gram.diagonal(dim1=-2, dim2=-1)
    moments = total_(z.mT @ z, group)
    squares = (norms * moments.diagonal(dim1=-2, dim2=-1)).sum(-1)
    # Over ordered pairs, of D: sum_ij (q_i + q_j - 2 G_ij S_ij), with q_i = G_ii S_ii.
    distances = 2 * (rank * squares - (gram * moments).sum((-2, -1)))
    mean = distances / (count * max(1, rank * (rank - 1)))
    # All features are equal: the distances are rounding errors, and any factor gives the same value.
    resolved = distances > 64 * torch.finfo(z.dtype).eps * rank * squares
    return torch.where(resolved, 1 / torch.where(resolved, mean, 1), 0)


def _piece(
    z: Tensor,
    gram: Tensor,
    factor: Tensor,
    weights: Tensor | None,
    pairs: _Pairs,
    needs_gradient: bool,
) -> tuple[Tensor, ...]:
    """Return the sum over samples, and its gradients with respect to z and to the Gram."""
    i, j, of_i, of_j = pairs
    norms = gram.diagonal(dim1=-2, dim2=-1)
    # (l, r, P): what z_i^2 and z_j^2 are multiplied with.
    squared = norms[..., None] * (of_i + of_j).T
    cross = -2 * gram[:, None, i, j]
    zi, zj = z[..., i], z[..., j]
    product = zi * zj
    z2 = z.square()
    distance = (z2 @ squared).addcmul_(product, cross).clamp_min_(0)
    near = distance.mul_(-factor[:, None, None]).exp_()
    if weights is not None:
        near *= weights
    value = near.sum((-2, -1))
    if not needs_gradient:
        return (value,)
    by_square = z2.mT @ near  # (l, r, P)
    dgram = torch.zeros_like(gram)
    dgram[:, i, j] = -2 * (near * product).sum(-2)
    dgram.diagonal(dim1=-2, dim2=-1).copy_((by_square * (of_i + of_j).T).sum(-1))
    dz = (near @ squared.mT).mul_(2 * z)
    near *= cross
    dz += (near * zj) @ of_i + (near * zi) @ of_j
    return value, dz.mul_(-factor[:, None, None]), dgram.mul_(-factor[:, None, None])
