"""Shows what cells came to: one with its configuration, several in a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil
from typing import Any

from tabulate import tabulate

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import DONE, INCOMPLETE
from benchmarks.harness.execute import Settings
from benchmarks.harness.plain_text import cleaned
from benchmarks.harness.record import primary_value
from benchmarks.harness.registry import benchmark_named, declared
from benchmarks.harness.store import State


def show_one(cell: Cell, settings: Settings) -> int:
    """Print a cell's configuration with the source of each value, and its record."""
    benchmark, scale = declared(cell, settings.scale)
    choices = benchmark.configure(benchmark, cell, scale)
    rows = [[key, json.dumps(choice.value), choice.source] for key, choice in choices.items()]
    print(tabulate(rows, headers=["setting", "value", "source"], disable_numparse=True))
    state = settings.state(cell)
    print(f"\nrecord: {settings.store.path(cell)} ({state.value})")
    if state not in (State.MISSING, State.INVALID):
        _show_record(settings, cell)
    return DONE


def show_several(cells: Sequence[Cell], settings: Settings, *, done: bool = False) -> int:
    """Print a row a cell: its result, the redundancy before and after its training, and a step's time.

    Args:
        cells: The cells.
        settings: Where their records are.
        done: Leave out cells without a record.
    """
    if done:
        cells = [cell for cell in cells if settings.state(cell) is not State.MISSING] or cells
    rows, missing = [], 0
    for cell in cells:
        state = settings.state(cell)
        record = None
        if state not in (State.MISSING, State.INVALID):
            record = settings.store.load(cell)
        missing += state is not State.FRESH
        rows.append(
            [str(cell), *_results(record, cell), "" if state is State.FRESH else state.value]
        )
    metric = benchmark_named(cells[0].benchmark).metrics[0]
    headers = ["cell", f"{metric.label} ({metric.unit})" if metric.unit else metric.label]
    headers += ["redundancy from", "to", "ms a step", "state"]
    if not missing:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    print(
        tabulate(rows, headers=headers, disable_numparse=True, stralign="right", colalign=("left",))
    )
    return INCOMPLETE if missing else DONE


def _results(record: dict[str, Any] | None, cell: Cell) -> list[str]:
    if record is None or record["status"] != "ok":
        return ["", "", "", ""]
    metric = benchmark_named(cell.benchmark).metrics[0]
    value, both = primary_value(record), record["redundancy"]
    stage = record["config"].get("stage1" if cell == cell.base else "stage2") or {}
    counts, seconds = record["counts"], record["cost"].get("train_seconds")
    steps = 0
    if seconds and stage.get("batch_size") and counts.get("n_seen_per_epoch"):
        steps = counts["epochs"] * ceil(counts["n_seen_per_epoch"] / stage["batch_size"])
    return [
        "" if value is None else f"{metric.factor * value:.{metric.digits}f}",
        *(f"{both[when]['mean']:.3f}" if both else "" for when in ("start", "end")),
        f"{1000 * seconds / steps:.0f}" if steps else "",
    ]


def _show_record(settings: Settings, cell: Cell) -> None:
    record = cleaned(settings.store.load(cell))
    assert record is not None
    value = primary_value(record)
    print(f"status: {record['status']}" + (f" ({record['error']})" if record["error"] else ""))
    if value is not None:
        primary = record["primary"]
        print(f"{primary['metric']} ({primary['selection']}): {100 * value:.1f} %")
        print(f"all selection rules: {json.dumps(record['metrics'])}")
    if record["redundancy"]:
        both = record["redundancy"]
        print(
            f"redundancy: {both['start']['mean']:.4f} at the start, {both['end']['mean']:.4f} at the end"
        )
    commit, finished = record["code"].get("commit"), record["run"].get("finished_at")
    print(f"code: {json.dumps(commit)}, finished {finished}")
