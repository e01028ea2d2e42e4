"""The four redundancy penalties of the paper (Eq. 5-8), in closed form.

A low-rank adapter ``x -> B A x`` of rank r is a sum of r rank-1 subspaces. For sample n, the feature
of subspace i is ``dh_i^n = z_i^n b_i``: a scalar times a fixed direction, where ``z = A x`` is the
activation that the adapter computes anyway, and ``b_i`` is column i of B. Every penalty is
therefore a function of the activations and of an r x r Gram matrix; no feature of size r x d x N
is ever built.

Shapes: activations ``z`` (N, r) and directions ``b`` (r, d), rows being the ``b_i``; or a batch of L
modules of one shape, (L, N, r) and (L, r, d). The value is the equation's for each module, summed
over the pairs i < j: a scalar, or (L,) for a batch. Values are computed in float32 at least, with
autocast off (half-precision Grams overflow without an error).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

Orientation = Literal["sample", "feature", "joint"]
ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
Variant = Literal["signed", "absolute", "squared"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

__all__ = ["PENALTIES", "cosine", "euclidean", "linear", "nonlinear", "squared_cosines"]


def linear(
    z: Tensor, b: Tensor, *, orientation: Orientation = "sample", center: bool = False
) -> Tensor:
    """Linear set-to-set similarity R_l (Eq. 7): the sum over pairs of cos^2(z_i, z_j).

    As printed, the product dH_i dH_j^T leaves ``b`` out of the value, so this penalty trains the
    down-projection (and what lies before it), never its own layer's up-projection. The transposed
    product leaves ``z`` out instead.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d).
        orientation: ``sample``, as printed: cos^2(z_i, z_j). ``feature``, with dH_i^T dH_j:
            cos^2(b_i, b_j). ``joint``, the matrices as vectors: the product of the two.
        center: Take the mean over samples off the activations first, as centred kernel alignment
            does; the paper does not.
    """
    if orientation not in ORIENTATIONS:
        raise ValueError(f"unknown orientation {orientation!r} (known: {', '.join(ORIENTATIONS)})")
    with _float32(z):
        z, b = _raise(z), _raise(b)
        if center:
            z = z - z.mean(-2, keepdim=True)
        if orientation == "sample":
            return _sum_over_pairs(squared_cosines(z))
        unit = _unit_rows(b)
        directions = (unit @ unit.mT).square()
        if orientation == "feature":
            return _sum_over_pairs(directions)
        return _sum_over_pairs(squared_cosines(z) * directions)


def cosine(z: Tensor, b: Tensor, *, variant: Variant = "signed") -> Tensor:
    """Pairwise cosine R_c (Eq. 6): sum over pairs of mean_n cos(dh_i^n, dh_j^n).

    The activations enter by their signs alone, so only the directions are trained. As printed the
    cosine is signed: its minimum is at opposite directions, not at orthogonal ones. A direction or
    activation of zero contributes nothing.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d).
        variant: ``signed``, as printed; ``absolute`` or ``squared``, which are lowest for
            orthogonal directions.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r} (known: {', '.join(VARIANTS)})")
    with _float32(z):
        signs = torch.sign(_raise(z).detach())
        unit = _unit_rows(_raise(b))
        cosines = unit @ unit.mT
        if variant == "signed":
            return _sum_over_pairs(signs.mT @ signs / z.shape[-2] * cosines)
        # The signs drop out, but for activations of zero.
        alive = signs.abs()
        share = alive.mT @ alive / z.shape[-2]
        return _sum_over_pairs(
            share * (cosines.abs() if variant == "absolute" else cosines.square())
        )


def euclidean(z: Tensor, b: Tensor, *, beta: float | None = None) -> Tensor:
    """Pairwise Euclidean proximity R_e (Eq. 5): mean_n, sum over pairs of exp(-beta |dh_i - dh_j|^2).

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d), the adapter's scale included.
        beta: The scaling factor, in 1 / |dh|^2. The paper gives no value. None takes one over the
            mean squared distance of each module, without gradient: far below it the penalty is a
            constant, far above it the gradient vanishes.
    """
    with _float32(z):
        z, b = _raise(z), _raise(b)
        gram = b @ b.mT
        norms = gram.diagonal(dim1=-2, dim2=-1)
        i, j = _pairs(z)
        zi, zj = z[..., i], z[..., j]
        # Rounding can make the distance of equal features slightly negative.
        distance = (
            zi.square() * norms[..., None, i]
            + zj.square() * norms[..., None, j]
            - 2 * zi * zj * gram[..., None, i, j]
        ).clamp_min(0)
        if beta is None:
            mean = distance.detach().mean(dim=(-2, -1), keepdim=True)
            scaled = distance / torch.where(mean > 0, mean, 1)
        else:
            scaled = beta * distance
        return torch.exp(-scaled).mean(-2).sum(-1)


def nonlinear(z: Tensor, b: Tensor, *, fraction: float = 0.5) -> Tensor:
    """Nonlinear set-to-set similarity R_n (Eq. 8): sum over pairs of the centred kernel alignment.

    K_i is a Gaussian kernel whose width is ``fraction`` times the median distance between samples in
    subspace i, so |b_i| cancels and the value is a function of ``z`` alone. The width follows the
    spread of z_i: the value is the median rule's, and the gradient has no part along z_i (a width
    held constant would let the penalty move the size of the update without lowering itself).
    Memory grows with N^2: use it on samples that are images, not tokens.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d); not used, present so that all penalties are called alike.
        fraction: The kernel's width over the median distance. The paper gives no value.
    """
    del b
    with _float32(z):
        z = _raise(z)
        n = z.shape[-2]
        if n < 2:
            return z.sum(dim=(-2, -1)) * 0
        rows = z.mT  # (..., r, N)
        gap = rows[..., :, None] - rows[..., None, :]
        p, q = torch.triu_indices(n, n, offset=1, device=z.device)
        median = gap.detach()[..., p, q].abs().median(-1).values
        deviation = _norm(rows - rows.mean(-1, keepdim=True))
        width = fraction * median * deviation / torch.where(deviation > 0, deviation, 1).detach()
        alive = width > 0
        scaled = gap / torch.where(alive, width, 1)[..., None, None]
        kernel = torch.exp(-0.5 * scaled.square())
        # Centre first: the expanded form subtracts near-equal numbers in float32.
        centred = kernel - kernel.mean(-1, keepdim=True)
        centred = centred - centred.mean(-2, keepdim=True)
        flat = _unit_rows(centred.flatten(-2)) * alive[..., None]
        return _sum_over_pairs(flat @ flat.mT)


PENALTIES: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "nonlinear": nonlinear,
    "euclidean": euclidean,
    "cosine": cosine,
}
"""The penalties by the name that a method's suffix carries."""


def squared_cosines(z: Tensor) -> Tensor:
    """Return the matrix of cos^2(z_i, z_j) between subspace activations, uncentred, over samples.

    Args:
        z: Activations, (N, r) or (L, N, r). A subspace that is zero has cosine zero with all.

    Returns:
        (r, r) or (L, r, r); the diagonal is one, or zero for a dead subspace.
    """
    unit = _unit_rows(z.mT)
    return (unit @ unit.mT).square()


def _unit_rows(x: Tensor) -> Tensor:
    # Norms from the elements and not from a Gram's diagonal: the CPU compiler of torch 2.13 returns
    # wrong gradients for the latter. Zero rows stay zero, with zero gradient.
    return x / _norm(x, zero_as=1.0)[..., None]


def _norm(x: Tensor, *, zero_as: float = 0.0) -> Tensor:
    # Scaled by the largest element, so that squares neither overflow nor vanish.
    largest = x.detach().abs().amax(-1)
    scale = torch.where(largest > 0, largest, 1)
    squares = (x / scale[..., None]).square().sum(-1)
    alive = squares > 0
    root = torch.sqrt(torch.where(alive, squares, 1)) * scale
    return torch.where(alive, root, zero_as)


def _pairs(z: Tensor) -> tuple[Tensor, Tensor]:
    i, j = torch.triu_indices(z.shape[-1], z.shape[-1], offset=1, device=z.device)
    return i, j


def _sum_over_pairs(matrix: Tensor) -> Tensor:
    return torch.triu(matrix, diagonal=1).sum(dim=(-2, -1))


def _raise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _float32(z: Tensor) -> torch.autocast:
    return torch.autocast(z.device.type, enabled=False)
