"""A table as tidy CSV in full precision: one line a number, ours and the paper's in own columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from reports.stats import Difference, Spread
from reports.tables import Row, TableData

FIELDS = (
    *("table", "scale", "benchmark", "backbone", "method", "in_suite", "quantity", "name"),
    *("n_declared", "n", "mean", "std", "low", "high", "paper_printed", "paper", "states"),
)


def render(data: TableData) -> str:
    """Write a table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in data.rows:
        for line in _lines(row, data):
            writer.writerow(_common(row, data) | line)
    return text.getvalue()


def _common(row: Row, data: TableData) -> dict[str, Any]:
    return {
        "table": data.table.name,
        "scale": data.grid.scale.name,
        "benchmark": data.grid.benchmark.name,
        "backbone": data.grid.backbone,
        "method": row.method,
        "in_suite": int(row.is_in_suite),
        "n_declared": len(data.grid.scale.seeds) if row.is_in_suite else 0,
    }


def _lines(row: Row, data: TableData) -> Iterator[dict[str, Any]]:
    printed, absolute = row.printed, row.absolute
    for task, cell in row.cells.items():
        states = sorted({found.reason or found.state.value for found in cell.measurements})
        yield _spread("task", task, cell.spread) | {
            "paper_printed": printed.cells[task] if printed else "",
            "paper": absolute.cells[task] if absolute else "",
            "states": "; ".join(states),
        }
    for group, spread in row.groups.items():
        yield _spread("group_mean", group, spread)
    for name in ("average", "all_set_average"):
        yield _spread("mean", name, getattr(row, name)) | {
            "paper_printed": getattr(printed, name, ""),
            "paper": getattr(absolute, name, ""),
        }
    yield {
        "quantity": "params_m",
        "name": "trainable_without_head",
        "mean": _number(row.params_m),
    } | {"paper": absolute.params_m if absolute else ""}
    yield _difference("base", row.over_base)
    yield _difference("control", row.over_control)


def _spread(quantity: str, name: str, spread: Spread | None) -> dict[str, Any]:
    line: dict[str, Any] = {"quantity": quantity, "name": name}
    if spread is None:
        return line | {"n": 0}
    return line | {"n": spread.n, "mean": _number(spread.mean), "std": _number(spread.std)}


def _difference(baseline: str, found: Difference | None) -> dict[str, Any]:
    line: dict[str, Any] = {"quantity": "delta", "name": f"all_set_average_over_{baseline}"}
    if found is None:
        return line | {"n": 0}
    return line | {
        "n": found.n_pairs,
        "mean": _number(found.mean),
        "low": _number(found.low),
        "high": _number(found.high),
    }


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
