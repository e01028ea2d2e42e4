"""Runs a VTAB-1K cell."""

from __future__ import annotations

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.training import two_stage
from benchmarks.training.classification import ImageClassification
from benchmarks.training.data import require_task
from benchmarks.training.two_stage import is_stage1_kept

__all__ = ["is_stage1_kept", "require", "run"]


def require(cell: Cell, config: Config, context: Context) -> None:
    """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
    require_task(context.data, config["data"]["variant"], cell.benchmark, cell.task)


def run(cell: Cell, config: Config, context: Context) -> Outcome:
    """Train and evaluate one cell."""
    return two_stage.run(cell, config, context, ImageClassification(cell, config, context))
