"""Centred kernel alignment of many samples: the Gaussian kernel as a short Fourier series.

On a line, for distances up to L, and with a period T,

    exp(-d^2 / 2) = sum_k c_k cos(2 pi k d / T) + error,   c_0 = sqrt(2 pi) / T,
    c_k = 2 c_0 exp(-2 (pi k / T)^2),

so each kernel is a product of N x 2K features, and the inner product of two centred kernels is the
squared Frobenius norm of a 2K x 2K block of the features' Gram. By Poisson's summation formula the error is
at most the contribution of the periodic images and of the frequencies above K:

    sum_q>0 exp(-(q T - L)^2 / 2) + exp(-(q T + L)^2 / 2)  +  erfc(sqrt(2) pi K / T).

T and K are the smallest for which that is below ``KERNEL_ERROR``; the error of an alignment is then at most
2 KERNEL_ERROR N / min_i |M K_i M|, which is computed and checked. All weights are positive: the
truncated kernel is positive definite, too.

One pass computes the value and the gradient. Only the gradient with respect to u is saved between forward and
backward, and no N x N matrix is ever formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from resora.processes import gather, total_

GAP = 8.0
"""Wider gaps between neighbours are shortened to this, at which the kernel is exp(-32) = 1e-14."""

KERNEL_ERROR = 5e-6
"""The error of a kernel's entries that the first expansion is made for."""

# Bytes of one intermediate: on a CPU one module at a time, so that it stays in the cache.
PIECE = {"cpu": 1, "cuda": 48 * 2**20}


class InaccurateExpansion(ArithmeticError):
    """The bound of the expansion's error is above the tolerance."""


def alignment(
    u: Tensor,
    mask: Tensor | None,
    count: Tensor,
    tolerance: float,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Return the sum over pairs of the centred alignment of K_i and K_j, by Fourier features.

    Args:
        u: (L, N, r), activations divided by the width of their kernel; zero where masked.
        mask: (L, N), True where a sample counts, or None.
        count: (L,), the number of samples that count, over all processes.
        tolerance: The largest error of an alignment (a number between 0 and 1) that is accepted.
        group: Processes whose samples belong together.

    Returns:
        (L,).

    Raises:
        InaccurateExpansion: The bound of the error is above the tolerance, also with more terms.
    """
    return _Alignment.apply(u, mask, count, tolerance, group)  # type: ignore[no-any-return]


class _Alignment(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        mask: Tensor | None,
        count: Tensor,
        tolerance: float,
        group: ProcessGroup | None,
    ) -> Tensor:
        value, bound, gradient = _evaluate(u, mask, count, KERNEL_ERROR, group, ctx)
        if bound > tolerance:
            # Nearly constant kernels: their centred part is small, so the error has to be smaller.
            error = max(0.5 * KERNEL_ERROR * tolerance / bound, torch.finfo(u.dtype).eps / 8)
            value, bound, gradient = _evaluate(u, mask, count, error, group, ctx)
        if bound > tolerance:
            raise InaccurateExpansion(
                f"the Fourier expansion of the kernels has an error of up to {bound:.1e} in an "
                f"alignment, above the tolerance of {tolerance:g}: a subspace is nearly constant but for "
                "a few samples. Use form='exact', sample='image', or a larger tolerance"
            )
        ctx.save_for_backward(gradient)
        ctx.group = group
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (du,) = ctx.saved_tensors
        return total_(gradient.clone(), ctx.group)[:, None, None] * du, None, None, None, None


def _evaluate(
    u: Tensor,
    mask: Tensor | None,
    count: Tensor,
    error: float,
    group: ProcessGroup | None,
    ctx: Any,
) -> tuple[Tensor, float, Tensor]:
    """Return the value (L,), the bound of the error of an alignment, and the gradient (L, N, r)."""
    place, length, longest = _places(u, group)
    period = length + math.sqrt(2 * math.log(4 / error))  # exp(-(T - L)^2 / 2) = error / 4
    value, floor = u.new_zeros(len(u)), u.new_zeros(len(u))
    gradient = torch.empty_like(u) if ctx.needs_input_grad[0] else u.new_empty(0)
    for rows, terms in _pieces(period, error, longest * u.shape[2] * u.element_size()):
        weight = None if mask is None else mask[rows, None, None, None, :].to(u.dtype)
        features = _Features(place[rows].mT, weight, count[rows], period[rows], terms, group)
        value[rows], floor[rows], slope = features.alignment(length[rows] > 0)
        if ctx.needs_input_grad[0]:
            gradient[rows] = features.gradient(slope).mT
    return value, 2 * error / floor.min().item(), gradient


def _pieces(period: Tensor, error: float, bytes_a_wave: int) -> Iterator[tuple[slice, int]]:
    """Split the modules into batches, and return how many frequencies each batch needs."""
    # erfc(sqrt(2) pi K / T) is the weight of the frequencies left out; the error is shared between T and K.
    tail = torch.erfinv(torch.tensor(1 - error / 4, dtype=torch.float64)).item()
    terms = [
        math.ceil(tail * longest / (math.sqrt(2) * math.pi)) for longest in period.amax(-1).tolist()
    ]
    limit = PIECE.get(period.device.type, PIECE["cuda"])
    start = 0
    while start < len(terms):
        end = start + 1
        while (
            end < len(terms)
            and (end + 1 - start) * 2 * bytes_a_wave * max(terms[start : end + 1]) <= limit
        ):
            end += 1
        yield slice(start, end), max(terms[start:end])
        start = end


def _places(u: Tensor, group: ProcessGroup | None) -> tuple[Tensor, Tensor, int]:
    """Return the positions of the samples on a line, and the length (L, r) that those of all processes cover.

    The positions are in double precision. The third value is the largest number of samples of a process.
    """
    # In double precision: a few samples may be very far from the rest.
    place = gather(u, None, group)[0].double()
    place -= place.amin(-2, keepdim=True)
    length = place.amax(-2)
    if length.numel() and length.max().item() > 3 * GAP:
        ordered, order = place.sort(dim=-2)
        ordered[:, 1:] -= (ordered.diff(dim=-2) - GAP).clamp_min_(0).cumsum(-2)
        place.scatter_(-2, order, ordered)
        length = ordered[:, -1]
    longest = place.shape[1]
    if group is not None:
        longest //= group.size()
        place = place.narrow(1, dist.get_rank(group) * longest, u.shape[1])
    return place, length.to(u.dtype), longest


class _Features:
    """The centred Fourier features of a few modules, (l, r, 2, K, N): cosines, then sines.

    Args:
        place: (l, r, N), in double precision.
        weight: (l, 1, 1, 1, N), zero where masked, or None.
        count: (l,).
        period: (l, r).
        terms: K.
        group: Processes whose samples belong together.
    """

    def __init__(
        self,
        place: Tensor,
        weight: Tensor | None,
        count: Tensor,
        period: Tensor,
        terms: int,
        group: ProcessGroup | None,
    ) -> None:
        self.group = group
        self.weight = weight
        self.frequency = 2 * math.pi / period
        self.order = torch.arange(1, terms + 1, dtype=period.dtype, device=place.device)
        angle = self.order[:, None] * self.frequency[..., None, None] / math.sqrt(2)
        c0 = math.sqrt(2 * math.pi) / period[..., None, None]
        # (l, r, 1, K, 1): the square roots of the series' weights.
        self.amplitude = (2 * c0).sqrt()[..., None] * torch.exp(-0.5 * angle.square())[:, :, None]
        waves = _waves(self.frequency.double()[..., None] * place, terms, period.dtype)
        if weight is not None:
            waves *= weight
        mean = total_(waves.sum(-1, keepdim=True), group) / count[:, None, None, None, None]
        self.mean = mean * self.amplitude
        self.centred = waves.mul_(self.amplitude).sub_(self.mean)
        if weight is not None:
            self.centred *= weight
        self.flat = self.centred.flatten(1, 3)
        self.samples = count

    def alignment(self, alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value (l,), the smallest norm of a centred kernel over N (l,), d value / d Gram."""
        rank = alive.shape[1]
        gram = total_(self.flat @ self.flat.mT, self.group)
        blocks = gram.unflatten(1, (rank, -1)).unflatten(3, (rank, -1))  # (l, r, 2K, r, 2K)
        products = blocks.square().sum((2, 4))
        norms = products.diagonal(dim1=1, dim2=2)
        inverse = torch.where(alive, torch.where(alive, norms, 1).rsqrt(), 0)
        aligned = products * inverse[:, :, None] * inverse[:, None, :]
        aligned.diagonal(dim1=1, dim2=2).zero_()
        value = torch.triu(aligned).sum((1, 2))
        floor = torch.where(alive, norms.sqrt() / self.samples[:, None], torch.inf).amin(-1)
        # d value / d products: off the diagonal for i < j and j < i, each half.
        outer = inverse[:, :, None] * inverse[:, None, :]
        own = -aligned.sum(-1) * inverse.square()
        slope = 2 * (
            outer - torch.diag_embed(outer.diagonal(dim1=1, dim2=2)) + torch.diag_embed(own)
        )
        return value, floor, (blocks * slope[:, :, None, :, None]).reshape(gram.shape)

    def gradient(self, slope: Tensor) -> Tensor:
        """Return d value / d u, (l, r, N), from d value / d Gram; overwrites the features."""
        # The derivative of the k-th wave has a factor k; d cos = -sin, d sin = cos.
        factor = self.order.repeat(self.flat.shape[1] // len(self.order))
        back = (factor[:, None] * slope @ self.flat).view_as(self.centred)
        waves = self.centred.add_(self.mean)
        turned = (
            back[:, :, 1].mul_(waves[:, :, 0]).addcmul_(back[:, :, 0], waves[:, :, 1], value=-1)
        )
        found = turned.sum(2).mul_(self.frequency[..., None])
        return found if self.weight is None else found * self.weight[:, 0, 0]


def _waves(angle: Tensor, terms: int, dtype: torch.dtype) -> Tensor:
    """Return cos(k t) and sin(k t) for k = 1 ... terms, (l, r, 2, terms, N), by doubling k.

    The angle and the waves that others are computed from are in double precision; otherwise the rounding
    error would grow with k.
    """
    waves = angle.new_empty(*angle.shape[:2], 2, terms, angle.shape[-1], dtype=dtype)
    cos, sin = waves[:, :, 0], waves[:, :, 1]
    c, s = angle.cos(), angle.sin()
    cos[:, :, 0], sin[:, :, 0] = c, s
    done = 1
    while done < terms:
        new = min(done, terms - done)
        by_c, by_s = c.to(dtype)[:, :, None], s.to(dtype)[:, :, None]
        low_c, low_s = cos[:, :, :new], sin[:, :, :new]
        cos[:, :, done : done + new] = (low_c * by_c).addcmul_(low_s, by_s, value=-1)
        sin[:, :, done : done + new] = (low_s * by_c).addcmul_(low_c, by_s)
        done += new
        c, s = c.square() - s.square(), 2 * c * s
    return waves
