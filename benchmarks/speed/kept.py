"""What keeping features of frozen parts is worth: seconds of whole cells with it and without, in turn.

    python -m benchmarks.speed.kept                                          # the embedded world, micro
    python -m benchmarks.speed.kept 'vtab1k/vit_b16/svhn/*/0' --scale paper --device cuda

Cells run through the command's own code, evaluation and computing of features included, each time in
folders of their own. Training losses of both ways are compared as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.cost.timing import ratios, rotated, summary
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import DONE, USAGE, UsageError
from benchmarks.harness.execute import Settings, lacking, run_group
from benchmarks.harness.progress import duration
from benchmarks.harness.registry import select
from benchmarks.speed.grid import NotWhole, circumstances, parser_of, settings_of

METHODS = ("linear", "partial", "lst", "unipt", "dtl", "dtl-plus")
CELLS = (
    *(f"vtab1k/vit_micro/svhn/{method}/0" for method in METHODS),
    "msrvtt/clip_micro/1ka/partial/0",
    "msrvtt/clip_micro/1ka/lst/0",
)

KEPT, ANEW = "kept", "anew"


def measure(cell: Cell, settings: Settings, rounds: int) -> dict[str, Any]:
    """Run a cell with features and without, in turn, and return seconds and how far losses are apart.

    Raises:
        NotWhole: It failed.
    """
    seconds: dict[str, list[float]] = {KEPT: [], ANEW: []}
    losses: dict[str, list[float]] = {}
    splits: list[str] = []
    for index in range(rounds):
        for way in rotated([KEPT, ANEW], index):
            record = _run(cell, replace(settings, caching=way == KEPT))
            seconds[way].append(record["cost"]["total_seconds"])
            losses[way] = record["curves"]["stage1"]["train_loss"]
            if way == KEPT:
                splits = (record["cost"]["cached_features"] or {"splits": []})["splits"]
    apart = (abs(a - b) / abs(b) for a, b in zip(losses[KEPT], losses[ANEW], strict=True))
    return {
        "splits": splits,
        "seconds": seconds,
        "kept_over_anew": summary(ratios(seconds[KEPT], seconds[ANEW])),
        "largest_relative_difference_of_losses": max(apart),
    }


def _run(cell: Cell, settings: Settings) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        there = replace(settings, results=Path(folder, "r"), work=Path(folder, "w"))
        run_group([cell], there, lambda event: None)
        record = there.store.load(cell)
    if record is None or record["status"] != "ok":
        raise NotWhole(f"{cell}: {record and record['error']}")
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table, cell by cell."""
    parser = parser_of("benchmarks.speed.kept", __doc__, CELLS)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    try:
        cells = [cell for cell in select(options.selectors, options.scale) if cell == cell.base]
        if not cells:
            raise UsageError("none of these cells is a stage 1")
        if missing := lacking(cells, settings):
            raise UsageError(next(iter(missing)))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    found: dict[str, Any] = {}
    for count, cell in enumerate(cells, start=1):
        found[str(cell)] = measure(cell, settings, options.rounds)
        sys.stderr.write(f"{count} of {len(cells)}: {cell}\n")
    whole = {**circumstances(options), "cells": found}
    if options.out is not None:
        options.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(found) + "\n")
    return DONE


def table(found: dict[str, Any]) -> str:
    """Return the results as text."""
    rows = [
        [
            cell,
            ", ".join(one["splits"]) or "none",
            duration(median(one["seconds"][ANEW])),
            f"{one['kept_over_anew']['median']:.2f}",
            f"{one['largest_relative_difference_of_losses']:.0e}",
        ]
        for cell, one in found.items()
    ]
    headers = ["cell", "cached", "not cached", "time ratio", "loss difference"]
    return tabulate(rows, headers=headers, disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
