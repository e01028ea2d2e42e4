"""Runs a few-shot cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks import backbones
from benchmarks.fewshot.problem import FewShot, require_set
from benchmarks.fewshot.spec import FEWSHOT, N_VAL, set_of
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.training import together, two_stage
from benchmarks.training.classification import weight_files
from benchmarks.training.together import forward_key
from benchmarks.training.two_stage import is_stage1_kept

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

EMBEDDED_VAL, EMBEDDED_TEST = 8, 25
"""Images a class of the embedded sets."""


def require(cell: Cell, config: Config, context: Context) -> None:
    """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
    require_set(cell, config, context)


def require_weights(cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
    """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
    del cell
    backbones.find_weights(config["backbone"], weight_files(context), fetch=fetch)


def expected_seconds(cell: Cell, config: Config, context: Context) -> tuple[float, str]:
    """Return the expected time of a cell from a few steps of its method here, and their step time.

    The augmentation is left out (README.md has its share).
    """
    from benchmarks.training.pace import pace_of

    pace = pace_of(cell, config, context)
    return seconds_at(cell, config, pace), f"{cell.method} on {cell.backbone}: {pace}"


def seconds_at(cell: Cell, config: Config, pace: Pace) -> float:
    """Return the time of a cell from its step time, without data augmentation."""
    name, shots = set_of(cell.task)
    classes = config["task"]["num_classes"]
    is_embedded = config["data"]["variant"] == "embedded"
    sizes = {
        "train": shots * classes,
        "val": classes * EMBEDDED_VAL if is_embedded else N_VAL[name],
        "test": classes * EMBEDDED_TEST if is_embedded else FEWSHOT.task(cell.task).n_test,
    }
    return pace.seconds(config, sizes)


def run(cell: Cell, config: Config, context: Context) -> Outcome:
    """Train and evaluate one cell."""
    return two_stage.run(cell, config, context, FewShot(cell, config, context))


def run_side_by_side(
    members: Sequence[tuple[Cell, Config]], context: Context
) -> Iterator[tuple[Cell, together.Found]]:
    """Train cells of one task in one forward pass, each on the draw of its seed; yield each result."""
    return together.run(members, context, lambda cell, config: FewShot(cell, config, context))
