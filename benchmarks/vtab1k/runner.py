"""Runs a VTAB-1K cell."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training import together
from benchmarks.training.classification import require_batch
from benchmarks.training.data import manifest_of, require_task
from benchmarks.training.runner import ClassificationRunner
from benchmarks.vtab1k.spec import VTAB1K

EMBEDDED_TEST = 1000


class VTAB1KRunner(ClassificationRunner):
    """Image classification on the 19 tasks."""

    def require(self, cell: Cell, config: Config, context: Context) -> None:
        """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
        folder = require_task(context.data, config["data"], cell.benchmark, cell.task)
        splits, parts = manifest_of(folder)["splits"], config["data"]["train"].split("+")
        require_batch(cell, config, sum(splits[part]["n"] for part in parts))

    def sizes(self, cell: Cell, config: Config) -> Mapping[str, int]:
        """Return the images of each split."""
        is_embedded = config["data"]["variant"] == "embedded"
        n_test = EMBEDDED_TEST if is_embedded else VTAB1K.task(cell.task).n_test
        return {"train800": 800, "val200": 200, "test": n_test}

    def run_side_by_side(
        self, members: Sequence[tuple[Cell, Config]], context: Context
    ) -> Iterator[tuple[Cell, together.Found]]:
        """Train cells of one task in one forward pass, on images loaded once; yield each result."""
        problem = self.problem(*members[0], context)
        return together.run(members, context, lambda cell, config: copy.copy(problem))


RUNNER = VTAB1KRunner()
