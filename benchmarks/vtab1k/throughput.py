"""Images a second of the training loop, and of evaluation, against the same work without any input.

    python -m benchmarks.vtab1k.throughput vtab1k/vit_b16/dtd/lora-r8+linear/0 --scale paper --weights random

The loop draws a shuffled batch of the packed task, normalises it and makes a step; the baseline makes the
step on one batch that is ready on the device. Both take turns in one process; the baseline also runs
against itself, which shows the noise. Evaluation reads the packed test split; its baseline computes on
one batch that is ready.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.cost.timing import fast_algorithms, no_collection, rotated
from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import DONE, USAGE, UsageError
from benchmarks.harness.execute import Settings, default_device
from benchmarks.training.classification import ImageClassification
from benchmarks.training.data import EVALUATION_BATCH
from benchmarks.training.throughput import (
    AGAIN,
    LOOP,
    READY,
    Batch,
    first,
    ready,
    speeds,
    stage_to_time,
    time_training,
)


def evaluation(
    problem: ImageClassification, model: torch.nn.Module, rounds: int, images: int
) -> dict[str, list[float]]:
    """Return seconds an image of reading and computing the test split, and of computing alone."""
    stream = problem.test
    size = min(EVALUATION_BATCH, images)
    count = min(images, len(stream)) // size
    batch = next(stream.batches(size))
    model.eval()

    def compute(batches: Iterator[Batch]) -> float:
        started = perf_counter()
        correct = torch.zeros((), dtype=torch.long, device=problem.device)
        for index, (inputs, labels) in enumerate(batches):
            if index == count:
                break
            correct += (model(inputs).argmax(1) == labels).sum()
        correct.item()
        return (perf_counter() - started) / (count * size)

    variants: dict[str, Callable[[], Iterator[Batch]]] = {
        LOOP: lambda: stream.batches(size),
        READY: lambda: iter([batch] * count),
        AGAIN: lambda: iter([batch] * count),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode(), no_collection():
        for index in range(-1, rounds):
            for name in rotated(list(variants), max(0, index)):
                seconds = compute(variants[name]())
                if index >= 0:
                    times[name].append(seconds)
    return times


def measure(
    cell: Cell, settings: Settings, *, rounds: int, steps: int, images: int
) -> dict[str, object]:
    """Return images a second and their ratios, median and quartiles over the rounds."""
    device = default_device(settings.device)
    torch.set_num_threads(settings.threads)
    context = Context(
        data=settings.data, work=settings.work, device=device, on_epoch=lambda *_: None,
        weights=settings.weights,
    )  # fmt: skip
    config = settings.config(cell)
    problem = ImageClassification(cell, config, context)
    with fast_algorithms(), stage_to_time(cell, config, problem) as stage:
        variants = {
            LOOP: first(problem.batches, steps),
            READY: ready(problem.batches(0), steps),
            AGAIN: ready(problem.batches(0), steps),
        }
        trained = time_training(problem, stage, variants, rounds=rounds, steps=steps)
        evaluated = evaluation(problem, stage.model, rounds, images)
    batch = problem.batch_size
    return {
        "cell": str(cell),
        "data": problem.fingerprint()["variant"],
        "image_size": config["data"].get("image_size"),
        "weights": problem.weights.id,
        "hardware": provenance.hardware(device),
        "rounds": rounds,
        "training": speeds(trained, batch, READY),
        "evaluation": speeds(evaluated, 1, READY),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vtab1k.throughput", description=__doc__
    )
    parser.add_argument("cell", type=Cell.parse)
    parser.add_argument("--scale", default="paper")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--variant", help="source of the packed data (default: the scale's)")
    parser.add_argument(
        "--weights", default="random", help="random, or timm's name of a checkpoint"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="training steps a round")
    parser.add_argument("--images", type=int, default=EVALUATION_BATCH, help="evaluated a round")
    options = parser.parse_args(arguments)
    overrides = {"backbone.weights": options.weights}
    if options.variant:
        overrides["data.variant"] = options.variant
    settings = Settings(
        scale=options.scale, data=options.data, device=options.device, threads=options.threads,
        overrides=overrides,
    )  # fmt: skip
    try:
        found = measure(
            options.cell,
            settings,
            rounds=options.rounds,
            steps=options.steps,
            images=options.images,
        )
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
