"""How long a step and an evaluation take on the machine at hand: on random pairs, with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn

from benchmarks.flickr30k import bert
from benchmarks.flickr30k.model import VSE, Batch
from benchmarks.flickr30k.problem import Pairs
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.trainer import Plan, Stage
from benchmarks.training.two_stage import adapt, regularizer_of
from benchmarks.weights import RANDOM
from resora import ReSoRA

REGIONS = {"bert_base": (36, 2048), "bert_micro": (12, 64)}
"""Regions of an image and their dimensions."""

PIECES = (8, 24)
"""Fewest and most pieces of a random caption, [CLS] and [SEP] among them; Flickr30K's mean is about 16."""

ENOUGH_SECONDS = 5.0
FEWEST_STEPS, MOST_STEPS = 2, 5


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        step_seconds: One training step, median.
        pair_seconds: Evaluation of a caption, with its share of an image.
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


class RandomPairs(Pairs):
    """As many batches of the same random pairs as are asked for."""

    def __init__(self, config: Config, context: Context) -> None:
        """Draw one batch; nothing is read."""
        name = config["backbone"]["name"]
        number, width = REGIONS[name]
        random = config | {"backbone": config["backbone"] | {"weights": RANDOM}}
        super().__init__(random, context, width)
        self.steps_an_epoch = 1
        draw = torch.Generator().manual_seed(0)
        lengths = torch.randint(PIECES[0], PIECES[1] + 1, (self.batch_size,), generator=draw)
        pieces = torch.randint(
            5, bert.text_named(name).pieces, (self.batch_size, int(lengths.max())), generator=draw
        )
        pieces[torch.arange(pieces.shape[1]) >= lengths.unsqueeze(1)] = 0
        regions = torch.rand(self.batch_size, number, width, generator=draw)
        kept = torch.randint(number * 3 // 4, number + 1, (self.batch_size,), generator=draw)
        regions[torch.arange(number) >= kept.unsqueeze(1)] = 0
        self.batch = self.on_device(Batch(regions, kept, pieces, lengths))

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.steps_an_epoch

    def batches(self, seed: int) -> Iterator[Batch]:
        """Iterate the batches."""
        for _ in range(self.steps):
            yield self.batch

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Nothing is known of random pairs."""
        return {}

    def evaluation_seconds(self, model: VSE) -> float:
        """Return the seconds that the evaluation of one caption takes, with a fifth of an image."""
        model.eval()
        batch = self.batch
        fifth = max(1, self.batch_size // 5)
        with torch.inference_mode():
            for _ in range(2):
                started = perf_counter()
                model.images(batch.regions[:fifth], batch.region_lengths[:fifth])
                model.texts(batch.pieces, batch.piece_lengths).sum().item()
        return (perf_counter() - started) / self.batch_size


@dataclass
class Prepared:
    """A method's stage, ready to make steps on random pairs."""

    problem: RandomPairs
    model: nn.Module
    stage: Stage
    regularizer: ReSoRA | None

    def close(self) -> None:
        """Stop listening to the model."""
        if self.regularizer is not None:
            self.regularizer.close()


def prepare(
    cell: Cell, config: Config, context: Context, folder: Path, problem: RandomPairs | None = None
) -> Prepared:
    """Build the model of a cell with random weights, and its stage; nothing is written."""
    problem = problem or RandomPairs(config, context)
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
    )
    return Prepared(problem, model, stage, regularizer)


def measure(cell: Cell, config: Config, context: Context) -> Pace:
    """Run a few steps of a cell's stage, and one evaluation; a ``+`` cell's stage is the second."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(cell, config, context, Path(folder))
        times = _times(prepared)
    prepared.close()
    assert isinstance(prepared.model, VSE)
    pair_seconds = prepared.problem.evaluation_seconds(prepared.model)
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
