"""The costs of all methods on each device: one block a device, one row a method."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.record import Record
from benchmarks.harness.spec import Table, Task
from benchmarks.harness.store import State
from benchmarks.method_cost.spec import ALL, BASELINE, CONTROL
from reports.grid import Grid
from reports.measurement import Measurement
from reports.notes import Notes
from reports.page import FAILED, HOLE, Block, Column, Entry, Page

COLUMNS = (
    Column("params\n(M)"),
    Column("step\n%"),
    Column("quartiles"),
    Column("memory\nMiB"),
    Column("beyond the\nmodel, %"),
    Column("FLOPs\n%"),
)
FIELDS = (
    *("table", "scale", "benchmark", "backbone", "task", "method", "quantity", "value", "low"),
    *("high", "state"),
)


@dataclass(frozen=True, kw_only=True)
class MethodCosts:
    """The table at one scale.

    Attributes:
        table: Its declaration.
        grid: The declared cells.
        cells: Task and measurement of each cell; a cell has all methods.
    """

    table: Table
    grid: Grid
    cells: tuple[tuple[Task, Measurement], ...]

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells without a record that can be used."""
        return self.grid.holes((ALL,))


def tabulate(table: Table, grid: Grid) -> MethodCosts:
    """Compute the table from the declared grid."""
    cells = tuple(
        (task, found) for task in grid.benchmark.tasks for found in grid.at(ALL, task.name)
    )
    return MethodCosts(table=table, grid=grid, cells=cells)


def page(data: MethodCosts) -> Page:
    """Format the table."""
    notes = Notes()
    scale = data.grid.scale
    warning = (
        "SMOKE SCALE: a small backbone and a few rounds; plumbing only, no difference between methods "
        "means anything."
    )
    return Page(
        title=f"Cost by method · scale {scale.name} · {data.grid.backbone}",
        warning=warning if scale.is_embedded else None,
        legend=_legend(data),
        ours=tuple(_block(data, task, found, notes) for task, found in data.cells),
        paper=(),
        notes=tuple(notes.lines()),
    )


def render_csv(data: MethodCosts) -> str:
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
        for name in data.table.rows if found.record else ():
            for line in _lines(found.record or {}, name):
                writer.writerow(common | {"method": name} | line)
    return text.getvalue()


def _legend(data: MethodCosts) -> tuple[str, ...]:
    scale = data.grid.scale
    return (
        f"One training step, forward to optimizer, on {data.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. All methods have the same batch and are timed in turn, in one process.",
        f"params: trainable, without the head. step: time over that of {BASELINE} in the same round, "
        "median over rounds, with its quartiles. The A/A line is lora-r8 once more: what is within its "
        "quartiles is noise.",
        "memory: peak of live tensors, that is model, optimizer, batch, and what a step allocates beyond "
        f"them; the latter, over {BASELINE}'s, in the next column. FLOPs: forward and backward, over "
        f"{BASELINE}'s, by torch's counter, which sees matrix products alone.",
        "noah is the subnet of the median size, as it is retrained. linear, partial, lst, unipt, dtl and "
        "dtl-plus need no backward pass through the frozen backbone, or through the part of it before "
        "what they train.",
        f"{HOLE} no record, or none that can be used. {FAILED} the run failed.",
    )


def _block(data: MethodCosts, task: Task, found: Measurement, notes: Notes) -> Block:
    record = found.record
    if record is None:
        first = Entry(FAILED if found.state is State.NOT_OK else HOLE, notes.mark([found]))
        rows: tuple[tuple[str, tuple[Entry, ...]], ...] = (
            ("all methods", (first, *(Entry(HOLE),) * (len(COLUMNS) - 1))),
        )
        return Block(title=f"{task.label} · no record", corner="method", columns=COLUMNS, rows=rows)
    hardware, counts = record["hardware"], record["counts"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, threads: {hardware['threads']}"
    title = f"{task.label} · batch {counts['batch_size']} · rounds: {counts['rounds']} · {machine}"
    names = [data.table.rows[0], CONTROL, *data.table.rows[1:]]
    return Block(
        title=title,
        corner="method",
        columns=COLUMNS,
        rows=tuple((name, _cells(record, name)) for name in names),
    )


def _cells(record: Record, name: str) -> tuple[Entry, ...]:
    ratio = record["metrics"].get(f"step_ratio/{name}")
    step, quartiles = "100", ""
    if ratio is not None:
        step = _percent(ratio["median"])
        quartiles = f"{_percent(ratio['lower_quartile'])} - {_percent(ratio['upper_quartile'])}"
    elif name != BASELINE:
        step = HOLE
    by_method = record["cost"]["by_method"]
    found, base = by_method.get(name), by_method[BASELINE]
    if found is None:
        return (Entry(""), Entry(step), Entry(quartiles), *(Entry(""),) * 3)
    beyond = _beyond(found) / _beyond(base)
    return (
        Entry(f"{found['trainable_params'] / 1e6:.3f}"),
        Entry(step),
        Entry(quartiles),
        Entry(f"{found['peak_memory_bytes'] / 2**20:.0f}"),
        Entry(_percent(beyond)),
        Entry(_percent(found["step_flops"] / base["step_flops"])),
    )


def _beyond(counts: dict[str, int]) -> int:
    return counts["peak_memory_bytes"] - counts["resident_bytes"]


def _percent(fraction: float | None) -> str:
    return HOLE if fraction is None else f"{100 * fraction:.0f}"


def _lines(record: Record, name: str) -> list[dict[str, Any]]:
    lines = []
    if (ratio := record["metrics"].get(f"step_ratio/{name}")) is not None:
        lines.append(
            {
                "quantity": "step_ratio",
                "value": ratio["median"],
                "low": ratio["lower_quartile"],
                "high": ratio["upper_quartile"],
            }
        )
    counts = record["cost"]["by_method"].get(name, {})
    return lines + [{"quantity": key, "value": value} for key, value in counts.items()]
