"""Runs a VTAB-1K cell."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.training import together, two_stage
from benchmarks.training.classification import ImageClassification, weight_files
from benchmarks.training.data import require_task
from benchmarks.training.together import forward_key
from benchmarks.training.two_stage import is_stage1_kept
from benchmarks.vtab1k.spec import VTAB1K

if TYPE_CHECKING:
    from benchmarks.training.pace import Pace

__all__ = [
    "expected_seconds",
    "forward_key",
    "is_stage1_kept",
    "require",
    "require_weights",
    "run",
    "run_side_by_side",
    "seconds_at",
]

EMBEDDED_TEST = 1000


def require(cell: Cell, config: Config, context: Context) -> None:
    """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
    require_task(context.data, config["data"], cell.benchmark, cell.task)


def require_weights(cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
    """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
    del cell
    backbones.find_weights(config["backbone"], weight_files(context), fetch=fetch)


def expected_seconds(cell: Cell, config: Config, context: Context) -> tuple[float, str]:
    """Return the expected time of a cell from a few steps of its method here, and their step time."""
    from benchmarks.training.pace import pace_of

    pace = pace_of(cell, config, context)
    return seconds_at(cell, config, pace), f"{cell.method} on {cell.backbone}: {pace}"


def seconds_at(cell: Cell, config: Config, pace: Pace) -> float:
    """Return the time of a cell from its step time."""
    is_embedded = config["data"]["variant"] == "embedded"
    n_test = EMBEDDED_TEST if is_embedded else VTAB1K.task(cell.task).n_test
    return pace.seconds(config, {"train800": 800, "val200": 200, "test": n_test})


def run(cell: Cell, config: Config, context: Context) -> Outcome:
    """Train and evaluate one cell."""
    return two_stage.run(cell, config, context, ImageClassification(cell, config, context))


def run_side_by_side(
    members: Sequence[tuple[Cell, Config]], context: Context
) -> Iterator[tuple[Cell, together.Found]]:
    """Train cells of one task in one forward pass, on images loaded once; yield each result."""
    problem = ImageClassification(*members[0], context)
    return together.run(members, context, lambda cell, config: copy.copy(problem))
