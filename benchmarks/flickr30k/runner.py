"""Runs a cell of Flickr30K."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.flickr30k import bert
from benchmarks.flickr30k.problem import ImageTextRetrieval
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.classification import weight_files
from benchmarks.training.runner import TwoStageRunner

if TYPE_CHECKING:
    from benchmarks.training.retrieval_pace import Pace

SIZES = {
    "folder": {"train": 145_000, "dev": 5_000, "test": 5_000},
    "embedded": {"train": 7_500, "dev": 1_000, "test": 2_500},
}
"""Captions of each split, by variant of the data."""

_paces: dict[tuple[str, str, str], Pace] = {}


class Flickr30KRunner(TwoStageRunner):
    """Image-text retrieval with BERT."""

    def problem(self, cell: Cell, config: Config, context: Context) -> ImageTextRetrieval:
        """Return the data, the loss and the metrics of a cell."""
        return ImageTextRetrieval(config, context)

    def require(self, cell: Cell, config: Config, context: Context) -> None:
        """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
        ImageTextRetrieval(
            config, context
        )  # also what does not fit the backbone: told once, before training

    def require_weights(self, cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
        """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
        bert.find_weights(config["backbone"], weight_files(context), fetch=fetch)

    def expected_seconds(self, cell: Cell, config: Config, context: Context) -> tuple[float, str]:
        """Return the expected time of a cell from a few steps of its method here, and their step time.

        Reading and augmenting are left out.
        """
        from benchmarks.flickr30k.pace import RandomPairs
        from benchmarks.training.retrieval_pace import measure

        key = (cell.backbone, cell.method, context.device)
        if key not in _paces:
            _paces[key] = measure(cell, config, RandomPairs(config, context))
        pace, sizes = _paces[key], SIZES[config["data"]["variant"]]
        names, limits = (
            config["data"],
            (config["data"]["limit_train"], config["data"]["limit_test"]),
        )
        train, val, test = (
            min(sizes[names[split]], limit or sizes[names[split]])
            for split, limit in (("train", limits[0]), ("val", limits[1]), ("test", limits[1]))
        )
        seconds = pace.seconds(config, train=train, evaluated=val + test)
        return seconds, f"{cell.method} on {cell.backbone}: {pace}"


RUNNER = Flickr30KRunner()
