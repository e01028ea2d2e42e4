"""The four redundancy penalties of the paper (Eq. 5-8), in closed form.

A low-rank adapter ``x -> B A x`` of rank r is a sum of r rank-1 subspaces. For sample n, the feature
of subspace i is ``dh_i^n = z_i^n b_i``: a scalar times a fixed direction, where ``z = A x`` is the
activation that the adapter computes anyway, and ``b_i`` is column i of B. Every penalty is
therefore a function of the activations and of an r x r Gram matrix; no feature of size r x d x N
is ever built.

Shapes: activations ``z`` (N, r) and directions ``b`` (r, d), rows being the ``b_i``; or a batch of L
modules of one shape, (L, N, r) and (L, r, d). The value is the equation's for each module, summed
over the pairs i < j: a scalar, or (L,) for a batch. With ``z`` the transposed down-projection,
(d_in, r), it is the penalty on the matrices W_i = b_i a_i^T themselves (the paper's Table 4).

All take ``mask``, (N,) or (L, N), True where a sample counts (masked values are ignored, even NaN), and
``group``, processes that each hold a part of the samples. The value is then that of all samples, and the
average of the gradients over the processes is the gradient on all samples.

Values are computed in float32 at least, with autocast off (half-precision Grams overflow without an
error). Gradients are first-order only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from resora import alignment, fourier
from resora.checks import check_choice
from resora.cosines import cosines
from resora.median import all_pairs_median, median_distance, pooled_median
from resora.processes import gather, total, total_
from resora.proximity import proximity

Orientation = Literal["sample", "feature", "joint"]
Variant = Literal["signed", "absolute", "squared"]
Width = Literal["smooth", "median", "detached", "global"]
Form = Literal["auto", "exact", "fourier"]

EXACT_UP_TO = 64
"""Samples up to which ``nonlinear`` forms N x N kernels, unless told otherwise."""

__all__ = ["PENALTIES", "cosine", "euclidean", "linear", "nonlinear", "squared_cosines"]


def linear(
    z: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    orientation: Orientation = "sample",
    center: bool = False,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Linear set-to-set similarity R_l (Eq. 7): the sum over pairs of cos^2(z_i, z_j).

    As printed, the product dH_i dH_j^T leaves ``b`` out of the value, so this penalty trains the
    down-projection (and what lies before it), never its own layer's up-projection. The transposed
    product leaves ``z`` out instead. With a single sample, every cosine of activations is one with a gradient
    of zero; where these enter, the value is then zero.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d).
        mask: Samples that count, (N,) or (L, N).
        orientation: ``sample``, as printed: cos^2(z_i, z_j). ``feature``, with dH_i^T dH_j:
            cos^2(b_i, b_j). ``joint``, the matrices as vectors: the product of the two.
        center: Subtract the mean over samples from the activations first, as centred kernel alignment does;
            the paper does not.
        group: Processes that share the samples.
    """
    check_choice("orientation", orientation, get_args(Orientation))
    with _float32(z):
        batch = _Batch(z, b, mask, group)
        if orientation == "feature":
            return batch.result(_sum_over_pairs(cosines(batch.b.mT).square()))
        z = batch.z
        if center:
            mean = total(z.sum(-2, keepdim=True), group) / batch.count[:, None, None]
            z = batch.masked(z - mean)
        similar = cosines(z, group).square()
        if orientation == "joint":
            similar = similar * cosines(batch.b.mT).square()
        return batch.result(batch.unless_single(_sum_over_pairs(similar)))


def cosine(
    z: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    variant: Variant = "signed",
    group: ProcessGroup | None = None,
) -> Tensor:
    """Pairwise cosine R_c (Eq. 6): sum over pairs of mean_n cos(dh_i^n, dh_j^n).

    Only the signs of the activations enter, so only the directions are trained. As printed the
    cosine is signed: its minimum is at opposite directions, not at orthogonal ones. A direction or
    activation of zero contributes nothing.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d).
        mask: Samples that count, (N,) or (L, N).
        variant: ``signed``, as printed; ``absolute`` or ``squared``, which are lowest for
            orthogonal directions.
        group: Processes that share the samples.
    """
    check_choice("variant", variant, get_args(Variant))
    with _float32(z):
        batch = _Batch(z, b, mask, group)
        signs = torch.sign(batch.z.detach())
        if variant != "signed":
            signs = signs.abs()  # the signs drop out, except where activations are zero
        agreement = total_(signs.mT @ signs, group) / batch.count[:, None, None]
        similar = cosines(batch.b.mT)
        if variant != "signed":
            similar = similar.abs() if variant == "absolute" else similar.square()
        return batch.result(_sum_over_pairs(agreement * similar))


def euclidean(
    z: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    beta: float | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Pairwise Euclidean proximity R_e (Eq. 5): mean_n, sum over pairs of exp(-beta |dh_i - dh_j|^2).

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d), the adapter's scale included.
        mask: Samples that count, (N,) or (L, N).
        beta: The scaling factor, in 1 / |dh|^2. The paper gives no value. None: one divided by the mean
            squared distance of each module, without gradient. Far below that the penalty is a constant, far
            above it the gradient vanishes.
        group: Processes that share the samples.
    """
    with _float32(z):
        batch = _Batch(z, b, mask, group)
        return batch.result(proximity(batch.z, batch.b, batch.mask, batch.count, beta, group))


def nonlinear(
    z: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    fraction: float = 0.5,
    width: Width = "smooth",
    form: Form = "auto",
    tolerance: float = 1e-4,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Nonlinear set-to-set similarity R_n (Eq. 8): sum over pairs of the centred kernel alignment.

    K_i is a Gaussian kernel whose width is ``fraction`` times the median distance between samples in
    subspace i, so |b_i| cancels and the value is a function of ``z`` alone.

    Args:
        z: Activations, (N, r) or (L, N, r).
        b: Directions, (r, d) or (L, r, d).
        mask: Samples that count, (N,) or (L, N).
        fraction: The kernel's width divided by the median distance. The paper gives no value.
        width: How the width depends on the activations. ``smooth``: the value of the median with the gradient
            of the standard deviation. The gradient then has no component along z_i, which would change the
            size of the update without lowering the penalty. ``median``: the gradient goes through the pair of
            samples whose distance is the median. ``detached``: the width is held constant; the gradient then
            has components along z_i and b_i. ``global``: one width for all subspaces of a module, from the
            median over all of them, with |b_i|; the gradient goes through the pair with the median.
        form: ``exact``: N x N kernels. ``fourier``: an expansion with a bounded error, linear in N.
            ``auto``: exact up to 64 samples, and where the width needs all pairs.
        tolerance: The largest error of an alignment that the expansion may have.
        group: Processes that share the samples.

    Raises:
        InaccurateExpansion: The bound of the expansion's error is above the tolerance.
    """
    check_choice("width", width, get_args(Width))
    check_choice("form", form, get_args(Form))
    with _float32(z):
        batch = _Batch(z, b, mask, group)
        z, mask = batch.z, batch.mask
        everybody, all_masks = gather(z, mask, group)
        samples = everybody.shape[-2]
        if samples < 2:
            return batch.result(z.sum((-2, -1)) * 0)
        needs_pairs = width in ("median", "global")
        if form == "fourier" and needs_pairs:
            raise ValueError(f"width={width!r} needs all pairs of samples: use form='exact'")
        is_exact = form == "exact" or (form == "auto" and (samples <= EXACT_UP_TO or needs_pairs))
        # Only differences matter, and a large mean would cost precision in the products.
        typical = everybody[:, :15].detach().median(-2, keepdim=True).values
        z, everybody = z - typical, everybody - typical
        if is_exact:
            z, mask = everybody, all_masks
        scale = _inverse_width(everybody, all_masks, batch.b, width, fraction, is_exact)
        u = z * scale[:, None, :]
        if is_exact:
            return batch.result(alignment.alignment(u, mask))
        return batch.result(fourier.alignment(u, mask, batch.count, tolerance, group))


PENALTIES: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "nonlinear": nonlinear,
    "euclidean": euclidean,
    "cosine": cosine,
}
"""The penalties by name, as in the suffix of a method (``lora-r8+linear``)."""


def squared_cosines(z: Tensor) -> Tensor:
    """Return the matrix of cos^2(z_i, z_j) between subspace activations, uncentred, over samples.

    Args:
        z: Activations, (N, r) or (L, N, r). A subspace that is zero has cosine zero with all.

    Returns:
        (r, r) or (L, r, r); the diagonal is one, or zero for a dead subspace.
    """
    with _float32(z):
        return cosines(_raise(z)).square()


class _Batch:
    """The arguments of a penalty with the batch dimension, in float32 at least, masked samples zero.

    Attributes:
        z: (L, N, r).
        b: (L, r, d).
        mask: (L, N), or None where all samples count.
        count: (L,), the number of samples that count, over all processes; at least one.
    """

    def __init__(
        self, z: Tensor, b: Tensor, mask: Tensor | None, group: ProcessGroup | None
    ) -> None:
        if z.ndim not in (2, 3) or b.ndim != z.ndim or z.shape[-1] != b.shape[-2]:
            raise ValueError(
                "z is (N, r) and b (r, d), or (L, N, r) and (L, r, d); got "
                f"{tuple(z.shape)} and {tuple(b.shape)}"
            )
        self._is_unbatched = z.ndim == 2
        self._group = group
        z, b = (x[None] if self._is_unbatched else x for x in (z, b))
        self.mask = None
        self.count = z.new_full((len(z),), z.shape[-2], dtype=_dtype(z))
        if mask is not None:
            if mask.shape not in (z.shape[1:2], z.shape[:2]):
                raise ValueError(
                    f"a mask is (N,) or (L, N) = {tuple(z.shape[:2])}; got {tuple(mask.shape)}"
                )
            self.mask = mask.bool().expand(z.shape[:2])
            self.count = self.mask.sum(-1).to(_dtype(z))
        self.z, self.b = self.masked(_raise(z)), _raise(b)
        self.count = total_(self.count, group).clamp_min(1)

    def masked(self, z: Tensor) -> Tensor:
        return z if self.mask is None else torch.where(self.mask[..., None], z, 0)

    def unless_single(self, value: Tensor) -> Tensor:
        """Return ``value``, or zero for modules with one sample."""
        if self.mask is None and self._group is None and self.z.shape[-2] > 1:
            return value
        return value * (self.count > 1)

    def result(self, value: Tensor) -> Tensor:
        return value[0] if self._is_unbatched else value


def _inverse_width(
    z: Tensor, mask: Tensor | None, b: Tensor, width: Width, fraction: float, is_exact: bool
) -> Tensor:
    """Return the factor of the activations: one divided by the kernel's width, (L, r), or zero.

    The width is in units of z (of z |b|, where b does not cancel).
    """
    rows = z.mT  # (L, r, N)
    mask = None if mask is None else mask[:, None]
    if width == "median":
        return _inverse(fraction * all_pairs_median(rows, mask))
    if width == "global":
        norms: Tensor = b.norm(dim=-1)
        return _inverse(fraction * pooled_median(rows * norms[..., None], mask)[:, None]) * norms
    median = (all_pairs_median if is_exact else median_distance)(rows.detach(), mask)
    if width == "detached":
        norms = b.norm(dim=-1)
        return _inverse(fraction * median * norms.detach()) * norms
    deviation = _deviation(rows, mask)
    follow = deviation / torch.where(deviation > 0, deviation, 1).detach()
    return _inverse(fraction * median * follow)


def _deviation(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Return the standard deviation up to a constant factor, with a gradient of zero where it is zero."""
    if mask is None:
        gaps = rows - rows.mean(-1, keepdim=True)
    else:
        number = mask.sum(-1, keepdim=True).clamp_min(1)
        mean = torch.where(mask, rows, 0).sum(-1, keepdim=True) / number
        gaps = torch.where(mask, rows - mean, 0)
    largest = gaps.detach().abs().amax(-1)
    largest = torch.where(largest > 0, largest, 1)
    squares = (gaps / largest[..., None]).square().sum(-1)
    alive = squares > 0
    return torch.where(alive, torch.where(alive, squares, 1).sqrt() * largest, 0)


def _inverse(x: Tensor) -> Tensor:
    alive = x > 0
    return torch.where(alive, 1 / torch.where(alive, x, 1), 0)


def _sum_over_pairs(matrix: Tensor) -> Tensor:
    return torch.triu(matrix, diagonal=1).sum(dim=(-2, -1))


def _dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _raise(x: Tensor) -> Tensor:
    return x.to(_dtype(x))


def _float32(z: Tensor) -> torch.autocast:
    return torch.autocast(z.device.type, enabled=False)
