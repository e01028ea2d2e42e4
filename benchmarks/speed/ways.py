"""The ways of training cells that are compared, each a few switches away from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.speed.graph import GraphedSteps
from benchmarks.speed.world import Packed, World
from benchmarks.training.precision import Name, Precision
from benchmarks.training.side_by_side import SideBySide
from benchmarks.training.trainer import Stage


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way.

    Attributes:
        name: Its name in the file.
        label: What it is, for people.
        precision: What it computes in.
        beside: Cells that share a forward pass; 0: one cell in the trainer's plain step.
        penalty: Of a second stage.
        is_fused: AdamW as one kernel.
        is_held: Frozen matrices are rounded to bfloat16 once.
        is_graph: The step is a CUDA graph.
        is_compiled: Blocks are compiled.
        has_fast_attention: Attention by torch's fused kernels.
        reads_losses: Each loss is read in its step.
    """

    name: str
    label: str
    precision: Name = "bf16"
    beside: int = 0
    penalty: str | None = None
    is_fused: bool = True
    is_held: bool = True
    is_graph: bool = False
    is_compiled: bool = False
    has_fast_attention: bool = True
    reads_losses: bool = False


def _beside(count: int, *, graph: bool = False, compiled: bool = False) -> Way:
    how = ["CUDA graph"] * graph + ["compiled blocks"] * compiled
    return Way(
        name=f"beside-{count}" + "-graph" * graph + "-compiled" * compiled,
        label=f"bf16, {count} side by side" + "".join(f", {one}" for one in how),
        beside=count,
        is_graph=graph,
        is_compiled=compiled,
    )


PLAIN, REFERENCE, AGAIN = "plain", "bf16", "bf16-again"

WAYS = (
    Way(
        name="fp32",
        label="trainer, fp32: packed images on the device, fused AdamW",
        precision="fp32",
    ),
    Way(name=REFERENCE, label="trainer, bf16"),
    _beside(8),
    _beside(8, graph=True),
    _beside(8, graph=True, compiled=True),
    _beside(1, graph=True),
    _beside(4),
    _beside(2),
    _beside(4, graph=True),
    Way(name="tf32", label="trainer, TF32", precision="tf32"),
    Way(name="bf16-cast", label="bf16, weights rounded in every pass", is_held=False),
    Way(name="bf16-unfused", label="bf16, AdamW not fused", is_fused=False),
    Way(name="bf16-math", label="bf16, attention in its plain form", has_fast_attention=False),
    Way(name="bf16-reading", label="bf16, each loss read in its step", reads_losses=True),
    Way(name="bf16+linear", label="bf16, stage 2 with R_l", penalty="linear"),
    Way(
        name="beside-8+linear",
        label="bf16, 8 side by side, stage 2 with R_l",
        beside=8,
        penalty="linear",
    ),
    Way(name=AGAIN, label="trainer, bf16, again (A/A)"),
    _beside(1, graph=True, compiled=True),
)
"""In the order in which they are measured: what matters most comes first, should time run out."""


def ways_on(device: str) -> list[Way]:
    """Return the ways that a kind of device has: TF32 and CUDA graphs are a GPU's."""
    return [
        way for way in WAYS if device == "cuda" or not (way.is_graph or way.precision == "tf32")
    ]


@contextmanager
def epochs_of(way: Way, world: World, folder: Path) -> Iterator[Callable[[], int]]:
    """Prepare a way; inside the block, the callable trains a round and returns its number of images."""
    precision = Precision(way.precision)
    size = world.size
    with ExitStack() as stack:
        stack.enter_context(precision.session(size.device))
        if not way.has_fast_attention:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
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
