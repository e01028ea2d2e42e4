"""Images a second of few-shot training with its augmentation, and without.

    python -m benchmarks.fewshot.throughput fewshot/vit_b16/cars-16shot/lora-r8+linear/0 --scale paper

Packed images of the published number and size are drawn at random; time depends on neither images nor
weights. Three sources of batches take turns in one process: the augmented images, the same ones normalised
without augmentation, and, against itself, which shows the noise, the latter again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import torch

from benchmarks import backbones
from benchmarks.cost.timing import fast_algorithms
from benchmarks.fewshot.problem import FewShot
from benchmarks.fewshot.spec import set_of
from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import DONE, USAGE, UsageError
from benchmarks.harness.execute import Settings, default_device
from benchmarks.harness.spec import Config
from benchmarks.training.data import Images, Normalisation
from benchmarks.training.throughput import Batch, first, speeds, stage_to_time, time_training
from benchmarks.weights import RANDOM

AUGMENTED, PLAIN, AGAIN = "augmented", "plain", "plain again (A/A)"


class RandomShots(FewShot):
    """The problem of a cell on as many random images as its draw has; nothing is read."""

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Draw the images."""
        self.config, self.context, self.device = config, context, context.device
        data = config["data"]
        self.batch_size = config["stage1"]["batch_size"]
        self.num_classes = config["task"]["num_classes"]
        self.normalise = Normalisation.named(data["normalisation"], self.device)
        count = set_of(cell.task)[1] * self.num_classes
        side, self.size = data["train_size"], data["image_size"]
        # Blocks of colour: noise would cost the same, but an image of noise is not one of a kind.
        coarse = torch.randint(256, (count, 3, side // 16, side // 16), dtype=torch.uint8)
        pixels = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)
        self.train = Images(pixels, torch.arange(count) % self.num_classes, self.normalise)
        self.head = backbones.head_of(config["backbone"]["name"])
        self.chance_loss = math.log(self.num_classes)
        self.prepare(config)

    def plain(self, seed: int) -> Iterator[Batch]:
        """Iterate batches of the images' middle, normalised and no more."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        margin = (self.train.pixels.shape[-1] - self.size) // 2
        middle = self.train.pixels[..., margin:, margin:][..., : self.size, : self.size]
        for index in order.split(self.batch_size):
            inputs = self.normalise(middle[index].to(self.device))
            yield inputs, self.train.labels[index].to(self.device)


def measure(cell: Cell, settings: Settings, *, rounds: int, steps: int) -> dict[str, Any]:
    """Return images a second and their ratios, median and quartiles over the rounds."""
    device = default_device(settings.device)
    torch.set_num_threads(settings.threads)
    context = Context(
        data=settings.data, work=settings.work, device=device, on_epoch=lambda *_: None,
        weights=settings.weights,
    )  # fmt: skip
    config = settings.config(cell)
    problem = RandomShots(cell, config, context)
    with fast_algorithms(), stage_to_time(cell, config, problem) as stage:
        variants = {
            AUGMENTED: first(problem.batches, steps),
            PLAIN: first(problem.plain, steps),
            AGAIN: first(problem.plain, steps),
        }
        times = time_training(problem, stage, variants, rounds=rounds, steps=steps)
    return {
        "cell": str(cell),
        "images": len(problem.train),
        "train_size": problem.train.pixels.shape[-1],
        "image_size": problem.size,
        "augment": config["augment"],
        "workers": problem.augmentation.workers,
        "hardware": provenance.hardware(device),
        "rounds": rounds,
        "training": speeds(times, problem.batch_size, PLAIN),
        "augmentation_alone": {"images_per_second": _alone(problem, steps)},
    }


def _alone(problem: RandomShots, steps: int) -> float:
    """Return images a second of the augmentation without any training."""
    started = perf_counter()
    count = sum(len(labels) for _, labels in first(problem.batches, steps)(1))
    return count / (perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fewshot.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cell", type=Cell.parse)
    parser.add_argument("--scale", default="paper", choices=["paper"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="training steps a round")
    options = parser.parse_args(arguments)
    settings = Settings(
        scale=options.scale, device=options.device, threads=options.threads,
        overrides={"backbone.weights": RANDOM},
    )  # fmt: skip
    try:
        found = measure(options.cell, settings, rounds=options.rounds, steps=options.steps)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
