"""Trains rounds in each of the compared configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.speed.graph import GraphedSteps
from benchmarks.speed.ways import Way
from benchmarks.speed.world import Packed, World
from benchmarks.training.precision import Precision
from benchmarks.training.side_by_side import SideBySide
from benchmarks.training.trainer import Stage

ATTENTION = {"math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION}


@contextmanager
def epochs_of(way: Way, world: World, folder: Path) -> Iterator[Callable[[], int]]:
    """Prepare a configuration; in the block, the callable trains a round and returns its number of images."""
    precision = Precision(way.precision)
    size = world.size
    with ExitStack() as stack:
        stack.enter_context(precision.session(size.device))
        if way.attention is not None:
            stack.enter_context(sdpa_kernel(ATTENTION[way.attention]))
        problem = Packed(size, reads_losses=True) if way.reads_losses else world.problem
        stages = [
            world.stage(
                folder,
                seed,
                precision,
                penalty=way.penalty,
                is_held=way.is_held,
                problem=problem,
            )
            for seed in range(max(1, way.beside))
        ]
        for stage in stages:
            if not way.is_fused:
                groups = [
                    {"params": group["params"], "weight_decay": group["weight_decay"]}
                    for group in stage.optimizer.param_groups
                ]
                stage.optimizer = torch.optim.AdamW(groups, lr=1e-5, foreach=True)
            if stage.penalty is not None:
                stack.callback(stage.penalty.close)  # type: ignore[attr-defined]
        train = _trainer(way, stages, problem.head)
        images = problem.steps * size.batch_size * len(stages)

        def epoch() -> int:
            train(0)
            return images

        yield epoch


def _trainer(way: Way, stages: list[Stage], head: str) -> Callable[[int], object]:
    if not way.beside:
        return stages[0].train_epoch
    joined = SideBySide(stages, head)
    if way.is_compiled:
        torch._dynamo.reset()
        for block in joined.shared.trunk.blocks:  # type: ignore[union-attr]
            block.compile()
    return (GraphedSteps(joined) if way.is_graph else joined).train_epoch
