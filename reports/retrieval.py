"""A half of Table 1: recalls both ways, parameters with and without the head, memory, ours and printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.harness.record import Record
from reports import stats
from reports.blocks import (
    STATES,
    difference_entry,
    holes,
    name_of,
    spread_entry,
    warning,
)
from reports.grid import base_of, control_of
from reports.measurement import Measurement
from reports.notes import Notes
from reports.page import FAILED, HOLE, NOTHING, Block, Column, Entry, Page
from reports.parts import paper_part, printed
from reports.published import DOWN_ARROW, UP_ARROW
from reports.published.parts import Part
from reports.stats import Spread
from reports.tables import Row, TableData

FIELDS = (
    *("table", "scale", "benchmark", "backbone", "method", "quantity", "n", "mean", "std"),
    *("low", "high", "paper_printed", "states"),
)
"""Columns of the CSV, of halves that are measured and of those that are not."""

UNIT = 1024**2 * 1000
"""Bytes of the unit of memory: a thousandth of so many mebibytes, as the code of UniPT prints it."""

GPU, PROCESS = "peak_gpu_memory_bytes", "peak_process_memory_bytes"
METERS = {
    GPU: "peak that torch allocated on the GPU",
    PROCESS: "peak of the resident memory of the CPU's process, which may have run other cells before",
}


RULES = {
    "best_val": "epoch with the best Rsum on dev",
    "last_epoch": "last epoch",
    "max_test": "epoch with the best Rsum on test",
}

TRAINED = {
    "flickr30k": "the image encoder is trained in every row and, as in the paper, counted in none.",
    "msrvtt": "both towers; the head (meanP) has no parameters. The paper's memory is that of four GPUs.",
}
"""What is to be said of each benchmark's counts."""


def page(data: TableData) -> Page:
    """Format a half."""
    notes = Notes()
    part = paper_part(data)
    scale = data.grid.scale
    meter = meter_of(data)
    measured = METERS[meter] if meter else "none measured"
    n = len(scale.seeds)
    return Page(
        title=f"{name_of(data.table)} · scale {scale.name} on {data.grid.backbone}",
        warning=warning(data),
        legend=(
            f"{data.grid.benchmark.name}: rows of the paper's {name_of(data.table)}. Ours: backbone "
            f"{data.grid.backbone}; scale {scale.name}: {scale.description}.",
            f"Recalls at 1 and their sum over both directions and ranks 1, 5, 10 (Rsum), in %; mean ± sample "
            f"std over n = {n} seeds, a cell with fewer says its n. {data.grid.benchmark.name}: of the "
            f"{RULES[data.grid.benchmark.selections[0]]}.",
            "params: trainable, in millions. adapter: without the head; total: with it. "
            f"{data.grid.benchmark.name}: {TRAINED[data.grid.benchmark.name]}",
            f"Memory in MiB / 1000, the unit of UniPT's code, which calls it GB: {measured}. The paper's "
            "meter is not named.",
            f"Δ: change of Rsum over the stage-1 method (base) and over stage 2 without the penalty "
            f"(control), paired by seed. 95 % interval in brackets: Student's t over the seeds; {UP_ARROW} "
            f"or {DOWN_ARROW} where it leaves zero out.",
            STATES,
            *holes(data),
        ),
        ours=(_ours(data, part, meter, notes),),
        paper=(printed(part),),
        notes=tuple(notes.lines()),
    )


def meter_of(data: TableData) -> str | None:
    """Which memory the records have: all of one column is measured alike. None: they have none."""
    records = [record for row in data.rows for record in data.grid.records(row.method)]
    return next((m for m in METERS if any(r["cost"].get(m) for r in records)), None)


def render_csv(data: TableData) -> str:
    """Write a half as CSV, in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    part, meter = paper_part(data), meter_of(data)
    for row in data.rows:
        for line in _lines(row, data, part, meter):
            writer.writerow(
                {
                    "table": data.table.name,
                    "scale": data.grid.scale.name,
                    "benchmark": data.grid.benchmark.name,
                    "backbone": data.grid.backbone,
                    "method": row.method,
                }
                | line
            )
    return text.getvalue()


def _ours(data: TableData, part: Part, meter: str | None, notes: Notes) -> Block:
    names = _printed_metrics(part)
    columns = (
        *(Column("params\nadapter"), Column("params\ntotal"), Column("memory")),
        *(Column(part.columns[name]) for name in names),
        *(Column("Δ base\n[95 %]"), Column("Δ control\n[95 %]"), Column("paper\nRsum")),
    )
    rows = tuple((row.method, tuple(_entries(row, data, part, meter, notes))) for row in data.rows)
    return Block(
        title=f"Ours: {data.grid.benchmark.name} on {data.grid.backbone}",
        corner="method",
        columns=columns,
        rows=rows,
    )


def _printed_metrics(part: Part) -> list[str]:
    """The paper's columns that are metrics; their names are those of the benchmark."""
    return [name for name in part.columns if name not in ("params_m", "memory_gb")]


def _entries(
    row: Row, data: TableData, part: Part, meter: str | None, notes: Notes
) -> Iterator[Entry]:
    declared, digits = len(data.grid.scale.seeds), data.grid.benchmark.metrics[0].digits
    measured = [found for cell in row.cells.values() for found in cell.measurements]
    marks = notes.mark(measured)
    sizes = _sizes(data.grid.records(row.method), meter)
    for name, places in (("adapter", 4), ("total", 4), ("memory", 3)):
        yield Entry(HOLE if sizes[name] is None else f"{sizes[name]:.{places}f}")
    for name in _printed_metrics(part):
        yield _recall(spread_of(data, row.method, name), measured, digits, declared, marks)
    for found, rival in ((row.over_base, base_of), (row.over_control, control_of)):
        yield Entry(NOTHING) if rival(row.method) is None else difference_entry(found, digits)
    paper = part.row(row.method)
    yield Entry(paper.cells["rsum"] if paper else NOTHING)


def _recall(
    spread: Spread | None, measured: Iterable[Measurement], digits: int, declared: int, marks: str
) -> Entry:
    if spread is not None:
        return Entry(spread_entry(spread, digits, declared).text, marks)
    has_failed = any(found.state.value == "not ok" for found in measured)
    return Entry(FAILED if has_failed else HOLE, marks)


def spread_of(data: TableData, method: str, metric: str) -> Spread | None:
    """Return a metric of a method in the tables' unit, over the seeds that there are."""
    benchmark = data.grid.benchmark
    factor = next(one.factor for one in benchmark.metrics if one.name == metric)
    rule = benchmark.selections[0]
    values = [record["metrics"][metric][rule] for record in data.grid.records(method)]
    return stats.spread([factor * value for value in values if value is not None])


def _sizes(records: list[Record], meter: str | None) -> dict[str, float | None]:
    """Parameters in millions and memory in its unit, means over the records."""
    costs = [record["cost"] for record in records]
    adapter = stats.mean([cost.get("trainable_params") for cost in costs])
    head = stats.mean([cost.get("head_params") for cost in costs])
    memory = stats.mean([cost.get(meter) for cost in costs]) if meter else None
    return {
        "adapter": None if adapter is None else adapter / 1e6,
        "total": None if adapter is None or head is None else (adapter + head) / 1e6,
        "memory": None if memory is None else memory / UNIT,
    }


def _lines(row: Row, data: TableData, part: Part, meter: str | None) -> Iterator[dict[str, Any]]:
    paper: Mapping[str, str] = found.cells if (found := part.row(row.method)) else {}
    cells = row.cells.values()
    states = sorted({m.reason or m.state.value for cell in cells for m in cell.measurements})
    records = data.grid.records(row.method)
    sizes = _sizes(records, meter)
    for quantity, name, printed_as in (
        ("params_adapter_m", "adapter", ""),
        ("params_m", "total", "params_m"),
        ("memory_gb", "memory", "memory_gb"),
    ):
        yield {
            "quantity": quantity,
            "n": 0 if sizes[name] is None else len(records),
            "mean": _number(sizes[name]),
            "paper_printed": paper.get(printed_as, ""),
            "states": "; ".join(states),
        }
    for metric in data.grid.benchmark.metrics:
        spread = spread_of(data, row.method, metric.name)
        yield {
            "quantity": metric.name,
            "n": spread.n if spread else 0,
            "mean": _number(spread.mean if spread else None),
            "std": _number(spread.std if spread else None),
            "paper_printed": paper.get(metric.name, ""),
            "states": "; ".join(states),
        }
    for name, change in (("base", row.over_base), ("control", row.over_control)):
        yield {
            "quantity": f"rsum_over_{name}",
            "n": change.n_pairs if change else 0,
            "mean": _number(change.mean if change else None),
            "low": _number(change.low if change else None),
            "high": _number(change.high if change else None),
        }


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
