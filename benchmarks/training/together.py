"""Cells of two stages that train side by side: which of them can, and their runs.

What a cell comes to is what it comes to alone, to rounding (``side_by_side.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import TypeVar

import torch

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.context import Context
from benchmarks.harness.errors import TimeLimit
from benchmarks.harness.methods import family_of
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.training import side_by_side
from benchmarks.training.finite import Diverged
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Progress
from benchmarks.training.two_stage import Run, TwoStageProblem, finish, prepare, stage_of

FAMILY = "lora"
"""The methods whose updates are applied cell by cell in one forward pass."""

SHARED = ("backbone", "task", "data", "training")
"""Sections of the configuration that have to be the same."""

OWN = ("name", "scale")
"""Settings of the method in which cells may differ; the rank is in the name."""

T = TypeVar("T")

ProblemOf = Callable[[Cell, Config], TwoStageProblem]

Found = Outcome | Exception
"""The result of a cell: its measurements, or its error."""


def forward_key(config: Config) -> str | None:
    """Return a key that is equal for all cells that can share a forward pass.

    None for a cell that trains alone: only plain LoRA shares a forward pass.
    """
    if family_of(parse_method(config["method"]["name"]).base) != FAMILY:
        return None
    stage = "stage2" if "stage2" in config else "stage1"
    parts = {name: config.get(name) for name in SHARED}
    parts["method"] = {k: v for k, v in config["method"].items() if k not in OWN}
    parts["stage"] = [stage, config[stage]["batch_size"]]
    return json.dumps(parts, sort_keys=True)


def run(
    members: Sequence[tuple[Cell, Config]],
    context: Context,
    problem_of: ProblemOf,
) -> Iterator[tuple[Cell, Found]]:
    """Train cells in one forward pass; yield each with its result when it is finished.

    One that cannot be prepared, diverges or breaks at its end leaves the others. A record's peak of GPU
    memory is that of all of them together, its seconds are a cell's share.

    Args:
        members: Cells with the same ``forward_key``, and their configurations.
        context: Folders and device.
        problem_of: Returns data, loss and metrics of a cell.

    Raises:
        NotShared: They cannot be trained together after all.
    """
    if context.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    with Precision.of(members[0][1]).session(context.device):
        runs: list[Run] = []
        for cell, config in members:
            prepared = _attempt(partial(_prepared, cell, config, context, problem_of))
            if isinstance(prepared, Run):
                runs.append(prepared)
            else:
                yield cell, prepared
        if not runs:
            return
        for one, progress in zip(runs, _train(runs), strict=True):
            if isinstance(progress, Diverged):
                yield one.cell, progress
            else:
                yield (
                    one.cell,
                    _attempt(partial(finish, one, progress, {"side_by_side": len(runs)})),
                )


def _prepared(cell: Cell, config: Config, context: Context, problem_of: ProblemOf) -> Run:
    return prepare(cell, config, context, problem_of(cell, config))


def _train(runs: Sequence[Run]) -> list[Progress | Diverged]:
    """Train the runs to their ends, each taking its share of the seconds."""
    started = perf_counter()
    with ExitStack() as stack:
        stages = [stack.enter_context(stage_of(one)) for one in runs]
        found = side_by_side.run(stages, runs[0].problem.head)
    for one in runs:
        one.seconds += (perf_counter() - started) / len(runs)
    return found


def _attempt(call: Callable[[], T]) -> T | Exception:
    """Return what a call returns, or the failure that is one cell's own."""
    try:
        return call()
    except (TimeLimit, torch.OutOfMemoryError):
        raise  # of all of them together
    except Exception as problem:  # noqa: BLE001 - it becomes the record of its cell
        return problem
