"""Runs a cell of MSR-VTT."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.record import Outcome
from benchmarks.harness.spec import Config
from benchmarks.msrvtt import clip, data, processes
from benchmarks.msrvtt.problem import VideoTextRetrieval, check_fit
from benchmarks.training.classification import weight_files
from benchmarks.training.runner import TwoStageRunner

if TYPE_CHECKING:
    from benchmarks.training.retrieval_pace import Pace

SIZES = {
    "folder": {"train_9k": (9_000, 20), "train_7k": (7_010, 20), "test_1ka": (1_000, 1)},
    "embedded": {"train_9k": (1_000, 5), "train_7k": (779, 5), "test_1ka": (200, 1)},
}
"""Clips of each list and captions of each, by variant of the data."""

PAIRS_ON_CPU = 4
"""More pairs of full size take minutes and gigabytes there."""

_paces: dict[tuple[str, str, str], Pace] = {}


class MSRVTTRunner(TwoStageRunner):
    """Video-text retrieval with CLIP."""

    def problem(self, cell: Cell, config: Config, context: Context) -> VideoTextRetrieval:
        """Return the data, the loss and the metrics of a cell."""
        return VideoTextRetrieval(config, context)

    def require(self, cell: Cell, config: Config, context: Context) -> None:
        """Raise a ``UsageError`` that gives the command to prepare what a cell needs and is not there."""
        names = config["data"]
        limits = (names["limit_train"], names["limit_test"])
        check_fit(data.require(context.data, names["variant"], limits), config["backbone"]["name"])

    def require_weights(self, cell: Cell, config: Config, context: Context, *, fetch: bool) -> None:
        """Raise a ``UsageError`` that says which file of weights to put where, if it is not there."""
        clip.find_weights(config["backbone"], weight_files(context), fetch=fetch)

    def expected_seconds(self, cell: Cell, config: Config, context: Context) -> tuple[float, str]:
        """Return the expected time of a cell from a few steps of its method here, and their step time.

        Reading, and the similarities of all pairs in an evaluation, are left out. On a CPU a step has a few
        pairs, and one with all is taken to last longer by their number.
        """
        from benchmarks.msrvtt.pace import RandomPairs
        from benchmarks.training.retrieval_pace import measure

        key = (cell.backbone, cell.method, context.device)
        if key not in _paces:
            batch = config["stage1"]["batch_size"]
            pairs = batch if context.device.startswith("cuda") else min(batch, PAIRS_ON_CPU)
            few = config | {"stage1": config["stage1"] | {"batch_size": pairs}}
            _paces[key] = measure(cell, few, RandomPairs(few, context)).times(batch / pairs)
        pace, names = _paces[key], config["data"]
        clips, captions = SIZES[names["variant"]][names["train"]]
        train = min(clips, names["limit_train"] or clips) - names["held_out"]
        test = SIZES[names["variant"]][names["test"]][0]
        evaluated = names["held_out"] + min(test, names["limit_test"] or test)
        seconds = pace.seconds(config, train=train * captions, evaluated=evaluated)
        return seconds, f"{cell.method} on {cell.backbone}: {pace}"

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Train and evaluate one cell, in as many processes as the configuration says."""
        helper = partial(self._train, cell, config, replace(context, on_epoch=_say_nothing))
        with processes.together(config["training"]["processes"], context.device, helper) as device:
            return self._train(cell, config, context, device)

    def _train(self, cell: Cell, config: Config, context: Context, device: str) -> Outcome:
        # All processes keep the same checkpoints in the same place, each written whole.
        context = replace(context, device=device)
        return super().run(cell, config, context)


def _say_nothing(cell: Cell, epoch: int, epochs: int) -> None:
    del cell, epoch, epochs


RUNNER = MSRVTTRunner()
