"""What runs the cells of a benchmark; each benchmark's ``runner.py`` has its own as ``RUNNER``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.registry import benchmark_named
from benchmarks.harness.spec import Config


class Runner:
    """The defaults are those of a benchmark without data, weights and stages."""

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Train or measure one cell."""
        raise NotImplementedError

    def require(self, cell: Cell, config: Config, context: Context) -> None:
        """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""

    def require_weights(self, cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
        """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""

    def is_stage1_kept(self, cell: Cell, config: Config, context: Context) -> bool:
        """Return whether the checkpoint that a ``+`` cell starts from exists."""
        raise NotImplementedError

    def expected_seconds(
        self, cell: Cell, config: Config, context: Context
    ) -> tuple[float, str] | None:
        """Time a few steps; return the expected time of a cell and a line about it. None: unknown."""
        return None

    def sizes(self, cell: Cell, config: Config) -> Mapping[str, int] | None:
        """Return the images of each split, for an estimate by measured speeds; None: there is none."""
        return None

    def forward_key(self, config: Config) -> str | None:
        """Return a key that is equal for cells that can share a forward pass; None: the cell trains alone."""
        return None

    def run_side_by_side(
        self, members: Sequence[tuple[Cell, Config]], context: Context
    ) -> Iterator[tuple[Cell, Outcome | Exception]]:
        """Train cells with an equal ``forward_key`` in one forward pass; yield each result."""
        raise NotImplementedError


def runner_of(cell: Cell) -> Runner:
    """Return what runs a cell."""
    module = importlib.import_module(benchmark_named(cell.benchmark).runner)
    found: Runner = module.RUNNER
    return found
