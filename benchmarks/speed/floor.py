"""The hardware's limit: a step's matrix products at the rate at which it multiplies large matrices."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost.timing import seconds
from benchmarks.speed.world import World
from benchmarks.training.precision import FP32, Name, Precision

SIDE = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices."""


def matmul_rate(device: str, precision: Name) -> float:
    """Return FLOPs a second of a product of two large square matrices: the best of three times ten."""
    side = SIDE[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    with Precision(precision).session(device):
        best = min(seconds(lambda: a @ b, 10, torch.device(device)) for _ in range(3))
    return 2 * side**3 / best


def step_flops(world: World, folder: Path) -> int:
    """Return the FLOPs of a training step of one cell, forward and backward: matrix products alone."""
    stage = world.stage(folder, 0, FP32)
    batch = next(world.problem.batches(0))
    stage.model.train()
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        world.problem.loss(stage.model, batch).backward()
    return counter.get_total_flops()
