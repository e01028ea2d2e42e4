"""The small adapters of all measurements, and how they are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RANK, SAMPLES, WIDTH = 8, 256, 64
"""Subspaces, samples, and the input and output width of an adapter."""


@dataclass
class Adapter:
    """A layer with an adapter whose subspaces overlap: inputs x (N, d), A and B^T (r, d)."""

    x: Tensor
    a: Tensor
    b: Tensor

    @property
    def z(self) -> Tensor:
        """Activations, (N, r)."""
        return self.x @ self.a.T

    @property
    def update(self) -> Tensor:
        """The weight update B A, (d, d)."""
        return self.b.T @ self.a


def generator(seed: int) -> torch.Generator:
    """Return a separate generator, so that no draw depends on another."""
    return torch.Generator().manual_seed(seed)


def adapter(seed: int, *, rank: int = RANK, mean: float = 0.0) -> Adapter:
    """Draw an adapter whose rows of A, and of B, share a direction.

    Args:
        seed: Of every draw.
        rank: Number of subspaces.
        mean: Size of the mean that all inputs have in common, in their standard deviations.
    """
    g = generator(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x = normal(SAMPLES, WIDTH)
    x = x + mean * normal(1, WIDTH)
    a, b = (normal(rank, WIDTH) + normal(1, WIDTH) for _ in range(2))
    return Adapter(x, a / math.sqrt(WIDTH), b / math.sqrt(WIDTH))


def whitened(drawn: Adapter) -> Adapter:
    """Return the same update B A, factored so that the activations are orthogonal: R_l = 0."""
    root = torch.linalg.cholesky(drawn.z.T @ drawn.z / len(drawn.x))
    return Adapter(
        drawn.x, torch.linalg.solve_triangular(root, drawn.a, upper=False), root.T @ drawn.b
    )


def descend(
    parameters: list[Tensor], loss: Callable[[], Tensor], steps: int, rate: float
) -> Iterator[Tensor]:
    """Take Adam steps; yield the loss before each of them, and at the end."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        value = loss()
        yield value.detach()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    yield loss().detach()


def directions(b: Tensor) -> Tensor:
    """Return the cosines between the directions, (r, r)."""
    unit: Tensor = b.detach() / b.detach().norm(dim=1, keepdim=True)
    return unit @ unit.T


def mean_over_pairs(matrix: Tensor) -> float:
    """Return the mean above the diagonal."""
    row, column = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return float(matrix[row, column].mean())


def mean_distance(drawn: Adapter) -> float:
    """Return the mean of |dh_i - dh_j|^2 over samples and pairs."""
    row, column = torch.triu_indices(len(drawn.b), len(drawn.b), offset=1)
    features = drawn.z[:, :, None] * drawn.b
    return float((features[:, row] - features[:, column]).square().sum(-1).mean())
