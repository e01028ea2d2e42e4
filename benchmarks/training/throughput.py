"""Times a training loop against other sources of its batches, all taking turns in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor

from benchmarks.cost.timing import no_collection, ratios, rotated, summary
from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Config
from benchmarks.training.classification import ImageClassification
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Plan, Stage
from benchmarks.training.two_stage import adapt, regularizer_of

Batch = tuple[Tensor, Tensor]
Batches = Callable[[int], Iterator[Batch]]
"""Seed -> the batches of an epoch."""

LOOP, READY, AGAIN = "loop", "ready", "ready again (A/A)"


@contextmanager
def stage_to_time(
    cell: Cell, config: Config, problem: ImageClassification, **options: Any
) -> Iterator[Stage]:
    """Prepare a cell's stage, the second one of a ``+`` cell, that leaves nothing behind.

    Args:
        cell: The cell.
        config: Its configuration.
        problem: What is trained on.
        options: Options of the method besides those of the configuration.
    """
    declared = {key: value for key, value in config["method"].items() if key != "name"}
    section = config.get("stage2") or config["stage1"]
    model, method = adapt(cell, declared | options, problem)
    regularizer = regularizer_of(model, section) if section.get("penalty") else None
    precision = Precision.of(config)
    with tempfile.TemporaryDirectory() as folder, precision.session(problem.device):
        yield Stage(
            model,
            problem,
            Plan.of(section),
            order_seed=0,
            noise_seed=0,
            folder=Path(folder),
            identity="timed",
            method=method,
            is_first="stage2" not in config,
            penalty=regularizer,
            precision=precision,
        )
    if regularizer is not None:
        regularizer.close()


def ready(images: Iterator[Batch], count: int) -> Batches:
    """Return batches without input work: the first one, ``count`` times."""
    batch = next(images)
    return lambda seed: iter([batch] * count)


def first(batches: Batches, steps: int) -> Batches:
    """Return the first batches of each epoch."""

    def some(seed: int) -> Iterator[Batch]:
        for index, batch in enumerate(batches(seed)):
            if index == steps:
                return
            yield batch

    return some


def time_training(
    problem: ImageClassification,
    stage: Stage,
    variants: Mapping[str, Batches],
    *,
    rounds: int,
    steps: int,
) -> dict[str, list[float]]:
    """Return seconds a step, by variant, in rounds in which all variants take turns.

    Args:
        problem: Its batches are replaced by those of each variant.
        stage: What trains on it.
        variants: Where ``steps`` batches come from, by name.
        rounds: Rounds that count; one before them warms up.
        steps: Steps a round.
    """
    whole = problem.batches
    times: dict[str, list[float]] = {name: [] for name in variants}
    for index in range(-1, rounds):
        for name in rotated(list(variants), max(0, index)):
            problem.batches = variants[name]  # type: ignore[method-assign, assignment]
            with no_collection():
                started = perf_counter()
                stage.train_epoch(0)
                if index >= 0:
                    times[name].append((perf_counter() - started) / steps)
    problem.batches = whole  # type: ignore[method-assign]
    return times


def speeds(times: Mapping[str, list[float]], images: int, baseline: str) -> dict[str, object]:
    """Return images a second, and their ratios to the baseline's: median and quartiles over the rounds.

    Args:
        times: Seconds by variant.
        images: Images in that time.
        baseline: The variant that the others are compared with.
    """
    found = {name: [images / seconds for seconds in values] for name, values in times.items()}
    return {
        "images_per_second": {name: summary(values) for name, values in found.items()},
        f"over_{baseline}": {
            name: summary(ratios(values, found[baseline]))
            for name, values in found.items()
            if name != baseline
        },
    }
