"""The four penalties as the paper prints them (Eq. 5-8), features materialised.

The reference of the tests, and the baseline of the cost benchmark; far too slow to train with. Nothing
here guards against a division by zero: where the equations are undefined, so are these.

Shapes: features dH (r, d, N) of one adapted matrix; dH[i, :, n] is dh_i^n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")

__all__ = [
    "cosine",
    "euclidean",
    "features",
    "features_from_maps",
    "linear",
    "linear_joint",
    "nonlinear",
]


def features(z: Tensor, b: Tensor) -> Tensor:
    """Return dh_i^n = z_i^n b_i from activations (N, r) and directions (r, d): (r, d, N)."""
    return torch.einsum("nr,rd->rdn", z, b)


def features_from_maps(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the features by way of r materialised maps W_i = b_i a_i^T applied to every sample.

    This is what the FLOPs printed in the paper's Table 6 correspond to.

    Args:
        x: Inputs, (N, d_in).
        a: Rows of the down-projection, (r, d_in).
        b: Directions, (r, d).
    """
    maps = b[:, :, None] * a[:, None, :]
    return maps @ x.T


def euclidean(dh: Tensor, beta: float) -> Tensor:
    """R_e, Eq. 5."""
    pairs = [torch.exp(-beta * (p - q).square().sum(0)).mean() for p, q in _pairs(list(dh))]
    return _sum(pairs, dh)


def cosine(dh: Tensor, power: int = 1) -> Tensor:
    """R_c, Eq. 6, which has the first power of each cosine."""
    pairs = [
        ((p * q).sum(0) / (p.norm(dim=0) * q.norm(dim=0))).pow(power).mean()
        for p, q in _pairs(list(dh))
    ]
    return _sum(pairs, dh)


def linear(dh: Tensor) -> Tensor:
    """R_l, Eq. 7, with products dH_i dH_j^T of size d x d; dH.mT gives the transposed reading."""
    own = [(h @ h.T).norm() for h in dh]
    pairs = [
        (p @ q.T).norm().square() / (own_p * own_q)
        for (p, own_p), (q, own_q) in _pairs(list(zip(dh, own, strict=True)))
    ]
    return _sum(pairs, dh)


def linear_joint(dh: Tensor) -> Tensor:
    """R_l with inner products of whole matrices in place of matrix products."""
    pairs = [
        (p * q).sum().square() / (p.square().sum() * q.square().sum()) for p, q in _pairs(list(dh))
    ]
    return _sum(pairs, dh)


def nonlinear(dh: Tensor, fraction: float, width: str = "median") -> Tensor:
    """R_n, Eq. 8, with explicit N x N kernels and centring matrix.

    Args:
        dh: Features, (r, d, N).
        fraction: sigma divided by the median distance between samples.
        width: ``median``: sigma_i of each subspace, differentiated; ``detached``: held constant;
            ``global``: one sigma, from the distances of all subspaces.
    """
    n = dh.shape[-1]
    centring = torch.eye(n, dtype=dh.dtype, device=dh.device) - 1 / n
    row, column = torch.triu_indices(n, n, offset=1, device=dh.device)
    distances = [(h[:, :, None] - h[:, None, :]).norm(dim=0) for h in dh]
    centred = []
    for distance in distances:
        counted = distances if width == "global" else [distance]
        sigma = fraction * torch.cat([each[row, column] for each in counted]).median()
        if width == "detached":
            sigma = sigma.detach()
        centred.append(torch.exp(-distance.square() / (2 * sigma**2)) @ centring)
    own = [(k @ k).trace() for k in centred]
    pairs = [
        (p @ q).trace() / (own_p * own_q).sqrt()
        for (p, own_p), (q, own_q) in _pairs(list(zip(centred, own, strict=True)))
    ]
    return _sum(pairs, dh)


def _pairs(items: Sequence[Item]) -> list[tuple[Item, Item]]:
    count = len(items)
    return [(items[i], items[j]) for i in range(count) for j in range(i + 1, count)]


def _sum(values: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(values).sum() if values else like.new_zeros(())
