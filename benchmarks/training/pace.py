"""Estimates the time of a cell on this machine from a few training steps.

The steps are those of the trainer, on random images and weights: time depends on neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.classification import ImageClassification
from benchmarks.training.data import EVALUATION_BATCH, Images, Normalisation
from benchmarks.training.throughput import stage_to_time
from benchmarks.training.trainer import Plan, Stage
from benchmarks.weights import RANDOM
from resora.backbones import describe

MEDIAN_SIZE = 5
"""Of NOAH's choices 1, 5 and 10: the subnet whose step is measured; the search before it is not."""

ENOUGH_SECONDS = 5.0
FEWEST_STEPS, MOST_STEPS = 2, 5


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        step_seconds: One training step, median.
        image_seconds: Evaluation of one image.
        steps: How many steps were timed.
    """

    step_seconds: float
    image_seconds: float
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.step_seconds:.3g} s a step (median of {self.steps}), "
            f"{1e3 * self.image_seconds:.3g} ms an image evaluated"
        )

    def seconds(self, config: Config, sizes: Mapping[str, int]) -> float:
        """Return how long the training and the evaluations of a configuration take.

        Args:
            config: The configuration.
            sizes: Examples of each split that it names.
        """
        plan = Plan.of(config["stage2" if "stage2" in config else "stage1"])
        data = config["data"]
        names = data["train"].split("+")
        n_train = sum(sizes[name] for name in names)
        n_train = min(n_train, data["limit_train"] or n_train)
        n_test = min(sizes[data["test"]], data["limit_test"] or sizes[data["test"]])
        n_val = sizes[data["val"]] if data["val"] and data["val"] not in names else 0
        steps = plan.epochs * (n_train // plan.batch_size)
        evaluations = math.ceil(plan.epochs / plan.evaluate_every)
        return steps * self.step_seconds + evaluations * (n_test + n_val) * self.image_seconds


class RandomImages(ImageClassification):
    """The problem of a cell, with as many batches of the same random images as are asked for."""

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Draw one batch; nothing is read."""
        name = config["backbone"]["name"]
        self.config = config | {"backbone": config["backbone"] | {"weights": RANDOM}}
        self.context, self.device = context, context.device
        self.head = backbones.head_of(name)
        self.batch_size, self.num_classes = (
            config["stage1"]["batch_size"],
            config["task"]["num_classes"],
        )
        self.chance_loss = math.log(self.num_classes)
        side = config["data"].get("image_size") or backbones.input_size(name)
        pixels = torch.randint(256, (self.batch_size, 3, side, side), dtype=torch.uint8)
        labels = torch.randint(self.num_classes, (self.batch_size,))
        normalise = Normalisation.named(config["data"]["normalisation"], self.device)
        self.train = Images(pixels.to(self.device), labels.to(self.device), normalise)
        self.batches_an_epoch = 1

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.batches_an_epoch

    def batches(self, seed: int) -> Any:
        """Iterate the batches; each is normalised again, as in training."""
        for _ in range(self.steps):
            yield self.train.inputs(slice(None)), self.train.labels

    def evaluation_seconds(self, model: torch.nn.Module) -> float:
        """Return the seconds that the evaluation of one image takes."""
        model.eval()
        on_gpu = self.device.startswith("cuda")
        copies = -(-EVALUATION_BATCH // self.batch_size) if on_gpu else 1
        images = Images(
            self.train.pixels.repeat(copies, 1, 1, 1),
            self.train.labels.repeat(copies),
            self.train.normalise,
        )
        with torch.inference_mode():
            self.accuracy(model, images)
            started = perf_counter()
            self.accuracy(model, images)
        return (perf_counter() - started) / len(images)


_measured: dict[tuple[str, str, str], Pace] = {}


def pace_of(cell: Cell, config: Config, context: Context) -> Pace:
    """Return the step and evaluation time of a cell's method on its backbone, measured once a process."""
    key = (cell.backbone, cell.method, context.device)
    if key not in _measured:
        _measured[key] = measure(cell, config, context)
    return _measured[key]


def measure(cell: Cell, config: Config, context: Context) -> Pace:
    """Run a few steps of a cell's stage, and one evaluation.

    Args:
        cell: The cell; a ``+`` cell's stage is the second.
        config: Its configuration.
        context: Device; nothing is written.
    """
    problem = RandomImages(cell, config, context)
    options = {}
    if "search" in config:
        blocks = len(describe(problem.build()).blocks)
        options["subnet"] = [[MEDIAN_SIZE] * blocks] * 3
    with stage_to_time(cell, config, problem, **options) as stage:
        times = _times(stage, problem)
        evaluation = problem.evaluation_seconds(stage.model)
    return Pace(sorted(times)[len(times) // 2], evaluation, len(times))


def _times(stage: Stage, problem: RandomImages) -> list[float]:
    """Return seconds a step: after one that is not timed, until there are enough of them."""
    # A GPU is waited for once an epoch, so that an epoch has several steps there.
    problem.batches_an_epoch = MOST_STEPS if problem.device.startswith("cuda") else 1
    started = perf_counter()
    stage.train_epoch(0)
    spent = perf_counter() - started
    times: list[float] = []
    while len(times) < FEWEST_STEPS or (len(times) < MOST_STEPS and spent < ENOUGH_SECONDS):
        started = perf_counter()
        stage.train_epoch(0)
        seconds = perf_counter() - started
        times.append(seconds / problem.steps)
        spent += seconds
    return times
