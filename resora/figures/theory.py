"""Formulas to compare the measurements with: floors, a bound, and the gradient of Eq. 10."""

from __future__ import annotations

import math

from torch import Tensor


def nonlinear_floor(n: float, fraction: float) -> float:
    """Return the expected R_n of a pair of independent Gaussian subspaces over n samples.

    With the samples of one subspace shuffled, the expectation of tr(K_i M K_j M) is exactly
    tr(K_i M) tr(K_j M) / (n - 1). The rest are moments of a Gaussian kernel under a Gaussian; the
    expectation of the ratio is taken as the ratio of the expectations.
    """
    # The median of |z - z'| is 0.6745 sqrt(2) standard deviations.
    square = (fraction * 0.6744897501960817 * math.sqrt(2)) ** 2
    mean = 1 / math.sqrt(1 + 2 / square)
    of_rows = square / (square + 1) / math.sqrt(1 + 2 / (square + 1))
    off_diagonal = 1 / math.sqrt(1 + 4 / square) - 2 * of_rows + mean**2
    diagonal = (1 + mean) ** 2 - 4 * (1 + mean) * mean + 4 * of_rows
    entries = n * diagonal + n * (n - 1) * off_diagonal
    total = n * diagonal + n * (n - 1) * ((1 - mean) ** 2 + 2 * off_diagonal)
    return (n - 1) * (1 - mean) ** 2 / (entries * (1 - 2 / n) + total / n**2)


def welch(n: float, rank: int) -> float:
    """Return the lowest possible mean of cos^2 over pairs of ``rank`` vectors in n dimensions."""
    return max(0.0, (rank / n - 1) / (rank - 1))


def cosine_gradients(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of cos(u, v) with respect to u: as Eq. 10 prints it, and the true one."""
    lengths, c = u.norm() * v.norm(), u @ v / (u.norm() * v.norm())
    printed = (v - c * u / u.norm()) / lengths
    return printed, (v - c * v.norm() * u / u.norm()) / lengths
