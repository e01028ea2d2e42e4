"""Runs a cell of MSR-VTT."""

from __future__ import annotations

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.msrvtt import clip, data
from benchmarks.msrvtt.problem import VideoTextRetrieval
from benchmarks.training import two_stage
from benchmarks.training.classification import weight_files
from benchmarks.training.two_stage import is_stage1_kept

__all__ = ["expected_seconds", "is_stage1_kept", "require", "require_weights", "run"]


def require(cell: Cell, config: Config, context: Context) -> None:
    """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
    del cell
    data.require(context.data, config["data"]["variant"])


def require_weights(cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
    """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
    del cell
    clip.find_weights(config["backbone"], weight_files(context), fetch=fetch)


def expected_seconds(cell: Cell, config: Config, context: Context) -> tuple[float, str]:
    """Return how long a cell will take by a few steps of its method on this machine, and their pace."""
    raise NotImplementedError


def run(cell: Cell, config: Config, context: Context) -> Outcome:
    """Train and evaluate one cell."""
    return two_stage.run(cell, config, context, VideoTextRetrieval(config, context))
