"""Small adapters, and what the tests of `resora/METHOD.md` do with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

N, R, D = 48, 4, 12
PAIRS = R * (R - 1) / 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adapter(mean: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, A and B^T of an adapter whose subspaces overlap."""
    x = normal(N, D) + mean * normal(1, D, seed=1)
    a = normal(R, D, seed=2) + normal(1, D, seed=3)
    b = normal(R, D, seed=4) + normal(1, D, seed=5)
    return x, a / math.sqrt(D), b / math.sqrt(D)


def gradients(function, *inputs: Tensor) -> list[Tensor]:
    inputs = tuple(x.detach().clone().requires_grad_() for x in inputs)
    found = torch.autograd.grad(function(*inputs), inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def descend(function, parameters: list[Tensor], steps: int, rate: float) -> list[Tensor]:
    parameters = [p.detach().clone().requires_grad_() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        function(*parameters).backward()
        optimizer.step()
    return [p.detach() for p in parameters]


def per_pair(matrix: Tensor) -> Tensor:
    return matrix[tuple(torch.triu_indices(len(matrix), len(matrix), 1))].mean()


def directions(b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(b[:, None], b[None], dim=-1)
