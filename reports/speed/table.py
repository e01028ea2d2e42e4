"""The speeds of all ways of training on each device: two blocks a device, one of ways, one of effects."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.record import Record
from benchmarks.harness.spec import Table, Task
from benchmarks.harness.store import State
from benchmarks.speed.spec import ALL, LABELS
from benchmarks.speed.ways import EFFECTS, PLAIN
from reports.grid import Grid
from reports.measurement import Measurement
from reports.notes import Notes
from reports.page import FAILED, HOLE, Block, Column, Entry, Page

COLUMNS = (
    Column("images/s"),
    Column("quartiles"),
    Column("x plain"),
    Column("cells/h"),
    Column("cells/h\nwith tests"),
    Column("% of\nfloor"),
    Column("memory\nGiB"),
)
EFFECT_COLUMNS = (Column("without\nimages/s"), Column("with\nimages/s"), Column("ratio"))
FIELDS = (
    *("table", "scale", "benchmark", "backbone", "task", "way", "quantity", "value", "low"),
    *("high", "state"),
)
PRECISIONS = ("fp32", "tf32", "bf16")
QUANTITIES = ("step_seconds", "floor_share", "peak_gpu_memory_bytes", "cells_at_once")


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """The table at one scale.

    Attributes:
        table: Its declaration.
        grid: The declared cells.
        cells: Task and measurement of each cell; a cell has all ways.
    """

    table: Table
    grid: Grid
    cells: tuple[tuple[Task, Measurement], ...]

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells without a record that can be used."""
        return self.grid.holes((ALL,))


def tabulate(table: Table, grid: Grid) -> Speeds:
    """Compute the table from the declared grid."""
    cells = tuple(
        (task, found) for task in grid.benchmark.tasks for found in grid.at(ALL, task.name)
    )
    return Speeds(table=table, grid=grid, cells=cells)


def page(data: Speeds) -> Page:
    """Format the table."""
    notes = Notes()
    scale = data.grid.scale
    warning = (
        "SMOKE SCALE: a small backbone and two steps a round; plumbing only, no difference between ways "
        "means anything."
    )
    return Page(
        title=f"Speed by way of training · scale {scale.name} · {data.grid.backbone}",
        warning=warning if scale.name == "smoke" else None,
        legend=_legend(data),
        ours=tuple(
            block for task, found in data.cells for block in _blocks(data, task, found, notes)
        ),
        paper=(),
        notes=tuple(notes.lines()),
    )


def render_csv(data: Speeds) -> str:
    """Write the table as tidy CSV in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for task, found in data.cells:
        common = {
            "table": data.table.name,
            "scale": data.grid.scale.name,
            "benchmark": data.grid.benchmark.name,
            "backbone": data.grid.backbone,
            "task": task.name,
            "state": found.reason or found.state.value,
        }
        for line in _lines(found.record) if found.record else ():
            writer.writerow(common | line)
    return text.getvalue()


def _legend(data: Speeds) -> tuple[str, ...]:
    scale = data.grid.scale
    return (
        f"Training of LoRA cells (r = 8) on {data.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. One process, one way after the other; median over rounds, with quartiles.",
        "x plain: images a second over those of the plain loop, which is the baseline: a data loader "
        "whose workers decode JPEGs, float32, one cell, each loss read in its step.",
        "cells/h: a stage of VTAB-1K at the scale paper, 100 epochs of 31 steps of 32 images; with tests: "
        "and ten evaluations of the mean test split.",
        "% of floor: the time that the step's matrix products take at the rate that the device reaches on "
        "one large product at the same precision, over the time of the step.",
        "memory: the allocator's peak on a GPU, of all cells together. An effect is the ratio of two ways "
        "that differ in one part; A/A is noise.",
        f"{HOLE} no record, or none that can be used, or a way that could not be measured. "
        f"{FAILED} the run failed.",
    )


def _blocks(data: Speeds, task: Task, found: Measurement, notes: Notes) -> tuple[Block, ...]:
    record = found.record
    if record is None:
        first = Entry(FAILED if found.state is State.NOT_OK else HOLE, notes.mark([found]))
        none = ("all ways", (first, *(Entry(HOLE),) * (len(COLUMNS) - 1)))
        title = f"{task.label} · no record"
        return (Block(title=title, corner="way", columns=COLUMNS, rows=(none,)),)
    hardware, counts, cost = record["hardware"], record["counts"], record["cost"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, threads: {hardware['threads']}"
    known = cost["matmul_flops_per_second"]
    rates = ", ".join(f"{name} {known[name] / 1e12:.3g}" for name in PRECISIONS if name in known)
    title = (
        f"{task.label} · batch {counts['batch_size']} · rounds: {counts['rounds']} of "
        f"{counts['steps']} steps · {machine} · matrix products in TFLOP/s: {rates}"
    )
    left_out = record["protocol"]["left_out"]
    rows = []
    for name in data.table.rows:
        if name in cost["by_way"]:
            rows.append((LABELS[name], _cells(record, name)))
        elif name in left_out:
            why = Entry(left_out[name][:60])
            rows.append((LABELS[name], (Entry(HOLE), why, *(Entry(""),) * (len(COLUMNS) - 2))))
    ways = Block(title=title, corner="way", columns=COLUMNS, rows=tuple(rows))
    effects = Block(
        title=f"{task.label} · what each part does",
        corner="part",
        columns=EFFECT_COLUMNS,
        rows=tuple(_effects(record)),
    )
    return ways, effects


def _cells(record: Record, name: str) -> tuple[Entry, ...]:
    way = record["cost"]["by_way"][name]
    speed = record["metrics"][f"images_per_second/{name}"]
    plain = _median(record, PLAIN)
    quartiles = ""
    if speed["lower_quartile"] is not None:
        quartiles = f"{_speed(speed['lower_quartile'])} - {_speed(speed['upper_quartile'])}"
    memory = way["peak_gpu_memory_bytes"]
    return (
        Entry(_speed(speed["median"])),
        Entry(quartiles),
        Entry(HOLE if plain is None else f"{speed['median'] / plain:.2f}"),
        Entry(f"{way['cells_per_hour']['training']:.1f}"),
        Entry(f"{way['cells_per_hour']['with_evaluation']:.1f}"),
        Entry(f"{100 * way['floor_share']:.0f}"),
        Entry("" if memory is None else f"{memory / 2**30:.1f}"),
    )


def _effects(record: Record) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    for label, without, using in EFFECTS:
        before, after = _median(record, without), _median(record, using)
        if before is not None and after is not None:
            entries = (_speed(before), _speed(after), f"{after / before:.2f}")
            yield label, tuple(map(Entry, entries))


def _median(record: Record, name: str) -> float | None:
    found: dict[str, float] | None = record["metrics"].get(f"images_per_second/{name}")
    return None if found is None else found["median"]


def _speed(images_per_second: float) -> str:
    return f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"


def _lines(record: Record) -> Iterator[dict[str, Any]]:
    for name, way in record["cost"]["by_way"].items():
        speed = record["metrics"][f"images_per_second/{name}"]
        yield {
            "way": name,
            "quantity": "images_per_second",
            "value": speed["median"],
            "low": speed["lower_quartile"],
            "high": speed["upper_quartile"],
        }
        for key, value in way["cells_per_hour"].items():
            yield {"way": name, "quantity": f"cells_per_hour/{key}", "value": value}
        for key in QUANTITIES:
            yield {"way": name, "quantity": key, "value": way[key]}
    for key, value in record["cost"]["matmul_flops_per_second"].items():
        yield {"way": key, "quantity": "matmul_flops_per_second", "value": value}
