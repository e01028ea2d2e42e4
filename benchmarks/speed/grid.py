"""How long a grid of cells takes with and without a shared stage 1, and side by side.

    python -m benchmarks.speed.grid --out work/speed                        # a part of the embedded Table 5
    python -m benchmarks.speed.grid --out work/speed --device cuda --side-by-side 8

The ways run the same cells through the command's own code, in turn, in one process, and each in folders of
its own: every cell with a stage 1 of its own, as where a method is trained on its own; a stage 1 for all
that start from it; and these side by side. The whole grid is as many times that as it has groups of one
base, task and seed: the embedded tasks have images of one size and number.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from tabulate import tabulate

from benchmarks.cost.timing import rotated
from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import DONE, USAGE, UsageError
from benchmarks.harness.execute import Event, Settings, default_device, lacking, run_group
from benchmarks.harness.progress import duration
from benchmarks.harness.registry import BENCHMARKS, select
from benchmarks.harness.workers import run_many

FILE = "grid.json"
TABLE = "table5"
PART = "vtab1k/vit_micro/svhn/lora-r2*/0"

OWN, SHARED = "own stage 1", "shared stage 1"


class NotWhole(Exception):
    """A cell was not finished, so its time is not valid."""


def trainings(cells: Sequence[Cell], way: str) -> int:
    """Return the number of stages that a configuration trains."""
    second = sum(cell != cell.base for cell in cells)
    return len(cells) + (second if way == OWN else 0)


def groups(cells: Sequence[Cell]) -> dict[Cell, set[str]]:
    """Return the methods of the cells by the base, task and seed that they start from."""
    found: defaultdict[Cell, set[str]] = defaultdict(set)
    for cell in cells:
        found[cell.base].add(cell.method.removeprefix(cell.base.method))
    return dict(found)


def times_in_grid(cells: Sequence[Cell], scale: str) -> int:
    """Return how many times the part is in the table's whole grid.

    Raises:
        UsageError: The part is not made of whole groups of it.
    """
    benchmark = BENCHMARKS[cells[0].benchmark]
    tables = [table for table in benchmark.tables if table.name == TABLE]
    if not tables:
        raise UsageError(f"{cells[0].benchmark} has no {TABLE}")
    backbone = benchmark.scales[scale].backbones[tables[0].backbone]
    whole = groups(
        [
            cell
            for cell in benchmark.cells(benchmark.scales[scale])
            if cell.backbone == backbone and cell.method in tables[0].rows
        ]
    )
    part = groups(cells)
    if wrong := [base for base, suffixes in part.items() if whole.get(base) != suffixes]:
        raise UsageError(
            f"{wrong[0]} and what starts from it are not whole as {TABLE} has them: choose "
            f"{wrong[0].with_method(wrong[0].method + '*')}"
        )
    return len(whole) // len(part)


def measure(
    cells: Sequence[Cell], settings: Settings, *, rounds: int, side_by_side: int
) -> dict[str, Any]:
    """Run the cells in each way, in turn, and return the seconds.

    Args:
        cells: The part of the grid.
        settings: How they run; results and work folders are replaced.
        rounds: Rounds.
        side_by_side: Cells that train side by side, at most, in the last way.

    Raises:
        NotWhole: A cell failed.
    """
    joined = f"{side_by_side} side by side"
    ways: dict[str, Callable[[Settings], object]] = {
        OWN: lambda there: _each_alone(cells, there),
        SHARED: lambda there: run_many(cells, there, 1, _check),
        joined: lambda there: run_many(cells, replace(there, side_by_side=side_by_side), 1, _check),
    }
    times = times_in_grid(cells, settings.scale)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds):
        for name in rotated(list(ways), index):
            with tempfile.TemporaryDirectory() as folder:
                there = replace(settings, results=Path(folder, "r"), work=Path(folder, "w"))
                started = perf_counter()
                ways[name](there)
                seconds[name].append(perf_counter() - started)
            sys.stderr.write(
                f"round {index + 1} of {rounds}, {name}: {duration(seconds[name][-1])}\n"
            )
    return {
        "cells": len(cells),
        "times_in_grid": times,
        "rounds": rounds,
        "ways": {
            name: {
                "seconds": values,
                "median_seconds": median(values),
                "trainings": trainings(cells, name),
                "whole_grid_seconds": median(values) * times,
                "over_own_stage1": median(values) / median(seconds[OWN]),
            }
            for name, values in seconds.items()
        },
    }


def _each_alone(cells: Sequence[Cell], settings: Settings) -> None:
    """Run each cell as if there were no other: one with a suffix trains its stage 1 itself."""
    for index, cell in enumerate(cells):
        run_group([cell], replace(settings, work=settings.work / str(index)), _check)


def _check(event: Event) -> None:
    if event.status not in (None, "ok"):
        raise NotWhole(f"{event.cell}: {event.status}: {event.error}")


def parser_of(name: str, about: str | None, selectors: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the programs that time whole cells.

    Args:
        name: Of the module.
        about: Its docstring.
        selectors: The cells, where none are named.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    shown = ", ".join(selectors)
    add("selectors", nargs="*", default=selectors, metavar="SELECTOR", help=f"default: {shown}")
    add("--scale", default="micro", help="micro (default), or another")
    add("--data", type=Path, default=Path("data"), help="root of the packed data")
    add("--device", default="auto", help="cpu, cuda, or auto (default)")
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=3)
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """Return how cells run, by what ``parser_of`` has parsed."""
    return Settings(
        scale=options.scale, data=options.data, device=options.device, threads=options.threads
    )


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a file says besides the times."""
    return {
        "scale": options.scale,
        "hardware": provenance.hardware(default_device(options.device)),
        "environment": provenance.environment(),
        "code": provenance.code(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file, print a table."""
    parser = parser_of("benchmarks.speed.grid", __doc__, [PART])
    parser.add_argument("--out", type=Path, required=True, help=f"folder of {FILE}")
    parser.add_argument("--side-by-side", type=int, default=4, metavar="K")
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    try:
        cells = select(options.selectors, options.scale)
        times_in_grid(cells, options.scale)
        if missing := lacking(cells, settings):
            raise UsageError(next(iter(missing)))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    found = {
        "selectors": options.selectors,
        "table": TABLE,
        **circumstances(options),
        **measure(cells, settings, rounds=options.rounds, side_by_side=options.side_by_side),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    temporary = options.out / f".tmp-{FILE}"
    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    temporary.replace(options.out / FILE)
    sys.stdout.write(table(found) + "\n")
    return DONE


def table(found: dict[str, Any]) -> str:
    """Return the results as text."""
    rows = [
        [
            name,
            way["trainings"],
            duration(way["median_seconds"]),
            f"{100 * way['over_own_stage1']:.0f}",
            duration(way["whole_grid_seconds"]),
        ]
        for name, way in found["ways"].items()
    ]
    headers = [
        "configuration",
        "trainings",
        "these cells",
        "%",
        f"whole {found['table']}, one process",
    ]
    return tabulate(rows, headers=headers, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
