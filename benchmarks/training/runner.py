"""Runners of benchmarks that train in two stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.runner import Runner
from benchmarks.harness.spec import Config
from benchmarks.training import together, two_stage
from benchmarks.training.classification import ImageClassification, weight_files


class TwoStageRunner(Runner):
    """Trains stage 1, or stage 2 from its checkpoint, on the problem that a benchmark makes of a cell."""

    def problem(self, cell: Cell, config: Config, context: Context) -> two_stage.TwoStageProblem:
        """Return the data, the loss and the metrics of a cell."""
        raise NotImplementedError

    def is_stage1_kept(self, cell: Cell, config: Config, context: Context) -> bool:
        """Return whether the checkpoint that a ``+`` cell starts from exists."""
        return two_stage.is_stage1_kept(cell, config, context)

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Train and evaluate one cell."""
        return two_stage.run(cell, config, context, self.problem(cell, config, context))


class ClassificationRunner(TwoStageRunner):
    """Image classification with timm's backbones."""

    def problem(self, cell: Cell, config: Config, context: Context) -> ImageClassification:
        """Return the data, the loss and the metrics of a cell."""
        return ImageClassification(cell, config, context)

    def require_weights(self, cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
        """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
        backbones.find_weights(config["backbone"], weight_files(context), fetch=fetch)

    def expected_seconds(
        self, cell: Cell, config: Config, context: Context
    ) -> tuple[float, str] | None:
        """Return the expected time of a cell from a few steps of its method here, and their step time.

        Data augmentation is left out (fewshot/README.md has its share).
        """
        from benchmarks.training.pace import pace_of

        sizes, pace = self.sizes(cell, config), pace_of(cell, config, context)
        if sizes is None:
            return None
        return pace.seconds(config, sizes), f"{cell.method} on {cell.backbone}: {pace}"

    def forward_key(self, config: Config) -> str | None:
        """Return a key that is equal for cells that can share a forward pass; None: the cell trains alone."""
        return together.forward_key(config)

    def run_side_by_side(
        self, members: Sequence[tuple[Cell, Config]], context: Context
    ) -> Iterator[tuple[Cell, together.Found]]:
        """Train cells of one task in one forward pass; yield each result."""
        return together.run(
            members, context, lambda cell, config: self.problem(cell, config, context)
        )
