"""Command line of the measurement of speed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.harness.errors import DONE, INCOMPLETE, USAGE, UsageError
from benchmarks.harness.execute import default_device
from data_prep.terminal import print_what_it_can

DESCRIPTION = """Measure training throughput of LoRA cells here, by configuration: a plain loop with
a data loader, the trainer, bfloat16, several cells side by side, CUDA graphs, compiled blocks. Needs neither
data nor weights."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file, print the table."""
    print_what_it_can()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, required=True, help="folder for speed.json")
    parser.add_argument("--backbone", default="vit_b16")
    parser.add_argument("--method", default="lora-r8", help="a LoRA method (default: lora-r8)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    parser.add_argument("--batch", type=int, default=32, help="batch size of a cell")
    parser.add_argument("--images", type=int, default=1000, help="training images")
    parser.add_argument("--steps", type=int, default=31, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, default=4, help="worker processes of the plain loop's loader"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--budget-seconds",
        type=float,
        default=600.0,
        help="start no further configuration after that",
    )
    options = parser.parse_args(arguments)
    try:
        found = _measure(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    print(table(found))
    for name, reason in found["left_out"].items():
        print(f"left out: {name}: {reason}")
    return INCOMPLETE if found["left_out"] else DONE


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from benchmarks.speed.measure import Measurement
    from benchmarks.speed.world import Size

    if not options.method.startswith("lora-r"):
        raise UsageError(
            f"cells side by side are cells of LoRA, such as lora-r8, not {options.method}"
        )
    if options.images < options.batch:
        raise UsageError(
            f"{options.images} images do not fill a batch of {options.batch} (--images)"
        )
    torch.set_num_threads(options.threads)
    size = Size(
        backbone=options.backbone,
        device=default_device(options.device),
        method=options.method,
        batch_size=options.batch,
        images=options.images,
        steps=options.steps,
        rounds=options.rounds,
        workers=options.workers,
    )
    return Measurement(size, options.out, budget_seconds=options.budget_seconds).run()


def table(found: dict[str, Any]) -> str:
    """Return the measured configurations as text, the plain loop first."""
    ways = found["ways"]
    plain = ways.get("plain")
    rows = []
    for name in sorted(ways, key=lambda name: name != "plain"):
        way = ways[name]
        speed = way["images_per_second"]["median"]
        ratio = f"{speed / plain['images_per_second']['median']:.1f}" if plain else ""
        memory = way["peak_gpu_memory_bytes"]
        rows.append(
            [
                way["label"],
                f"{speed:.0f}" if speed >= 10 else f"{speed:.2f}",
                ratio,
                f"{100 * way['floor_share']:.0f}",
                f"{way['cells_per_hour']['training']:.1f}",
                f"{way['cells_per_hour']['with_evaluation']:.1f}",
                "" if memory is None else f"{memory / 2**30:.1f}",
            ]
        )
    headers = ["configuration", "images/s", "x plain", "% of floor", "cells/h", "with tests", "GiB"]
    return tabulate(rows, headers=headers, disable_numparse=True)
