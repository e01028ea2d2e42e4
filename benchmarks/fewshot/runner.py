"""Runs a few-shot cell."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.fewshot.problem import DRAWS, FewShot, check_mixing, draw_of, require_set
from benchmarks.fewshot.spec import FEWSHOT, N_VAL, set_of
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.augment import Protocol
from benchmarks.training.classification import require_batch
from benchmarks.training.data import manifest_of
from benchmarks.training.runner import ClassificationRunner

EMBEDDED_VAL, EMBEDDED_TEST = 8, 25
"""Images a class of the embedded sets."""


class FewShotRunner(ClassificationRunner):
    """Image classification from the few images that a seed draws."""

    def problem(self, cell: Cell, config: Config, context: Context) -> FewShot:
        """Return the data, the loss and the metrics of a cell."""
        return FewShot(cell, config, context)

    def require(self, cell: Cell, config: Config, context: Context) -> None:
        """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
        lists = manifest_of(require_set(cell, config, context))[DRAWS]["lists"]
        check_mixing(Protocol.of(config["augment"]), config["stage1"]["batch_size"])
        # A draw that is not there is told by the cell whose seed it is of.
        if (draw := draw_of(cell, config)) in lists:
            require_batch(cell, config, lists[draw]["n"])

    def sizes(self, cell: Cell, config: Config) -> Mapping[str, int]:
        """Return the images of each split."""
        name, shots = set_of(cell.task)
        classes = config["task"]["num_classes"]
        is_embedded = config["data"]["variant"] == "embedded"
        return {
            "train": shots * classes,
            "val": classes * EMBEDDED_VAL if is_embedded else N_VAL[name],
            "test": classes * EMBEDDED_TEST if is_embedded else FEWSHOT.task(cell.task).n_test,
        }


RUNNER = FewShotRunner()
