"""Measures training step and evaluation time on this machine, with random pairs and random weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

from torch import nn

from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Config
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Plan, Problem, Stage
from benchmarks.training.two_stage import ModelSource, adapt, regularizer_of
from resora import ReSoRA

ENOUGH_SECONDS = 5.0
FEWEST_STEPS, MOST_STEPS = 2, 5


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        step_seconds: One training step, median.
        pair_seconds: Evaluation of a caption, with its share of an image or a clip.
        steps: How many steps were timed.
    """

    step_seconds: float
    pair_seconds: float
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.step_seconds:.3g} s a step (median of {self.steps}), "
            f"{1e3 * self.pair_seconds:.3g} ms a caption evaluated"
        )

    def times(self, factor: float) -> Pace:
        """Return the times for ``factor`` times as many pairs."""
        return replace(self, step_seconds=factor * self.step_seconds)

    def seconds(self, config: Config, *, train: int, evaluated: int) -> float:
        """Return how long the stage of a cell takes.

        Args:
            config: Its configuration.
            train: Captions that are trained on.
            evaluated: Captions of all splits that are evaluated.
        """
        plan = Plan.of(config["stage2" if "stage2" in config else "stage1"])
        evaluations = math.ceil(plan.epochs / plan.evaluate_every)
        steps = plan.epochs * (train // plan.batch_size)
        return steps * self.step_seconds + evaluations * evaluated * self.pair_seconds


class OneBatch:
    """A problem that returns the same batch each time.

    Attributes:
        batch: The batch.
        steps_an_epoch: How often.
    """

    batch: Any
    steps_an_epoch = 1

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.steps_an_epoch

    def batches(self, seed: int) -> Iterator[Any]:
        """Iterate the batches."""
        del seed
        for _ in range(self.steps):
            yield self.batch

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Nothing is known of random pairs."""
        del model
        return {}


class RandomProblem(Problem, ModelSource, Protocol):
    """A retrieval problem that needs no data."""

    batch: Any
    """The batch of every step, on the device."""

    def backbone(self) -> nn.Module:
        """Return the network that methods adapt."""

    def evaluation_seconds(self, model: nn.Module) -> float:
        """Return the seconds that the evaluation of one caption takes, with its share of the other side."""


@dataclass
class Prepared:
    """A method's stage, ready to make steps on random pairs."""

    problem: RandomProblem
    model: nn.Module
    stage: Stage
    regularizer: ReSoRA | None

    def close(self) -> None:
        """Stop listening to the model."""
        if self.regularizer is not None:
            self.regularizer.close()


def prepare(cell: Cell, config: Config, folder: Path, problem: RandomProblem) -> Prepared:
    """Build the model of a cell with random weights, and its stage; nothing is written."""
    options = {key: value for key, value in config["method"].items() if key != "name"}
    model, method = adapt(cell, options, problem)
    section = config.get("stage2") or config["stage1"]
    regularizer = regularizer_of(model, section) if section.get("penalty") else None
    stage = Stage(
        model,
        problem,
        Plan.of(section),
        order_seed=0,
        noise_seed=0,
        folder=folder,
        identity="pace",
        method=method,
        is_first="stage2" not in config,
        penalty=None if regularizer is None else lambda: regularizer(mask=problem.mask),
        precision=Precision.of(config),
    )
    return Prepared(problem, model, stage, regularizer)


def measure(cell: Cell, config: Config, problem: RandomProblem) -> Pace:
    """Run a few steps of a cell's stage, and one evaluation; a ``+`` cell's stage is the second."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Precision.of(config).session(problem.device),
    ):
        prepared = prepare(cell, config, Path(folder), problem)
        times = _times(prepared)
        prepared.close()
        pair_seconds = problem.evaluation_seconds(prepared.model)
    return Pace(median(times), pair_seconds, len(times))


def _times(prepared: Prepared) -> list[float]:
    """Return seconds a step: after one that is not timed, until there are enough of them."""
    prepared.stage.train_epoch(0)
    times: list[float] = []
    while len(times) < FEWEST_STEPS or (len(times) < MOST_STEPS and sum(times) < ENOUGH_SECONDS):
        started = perf_counter()
        prepared.stage.train_epoch(0)
        times.append(perf_counter() - started)
    return times
