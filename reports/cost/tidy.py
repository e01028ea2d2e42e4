"""The table of costs as tidy CSV in full precision: one line a number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from reports.cost.table import CostTable, MethodCost, Quartiles, VariantRow

FIELDS = (
    *("table", "scale", "benchmark", "backbone", "task", "method", "variant", "quantity"),
    *("median", "low", "high", "paper_printed", "state"),
)

PRINTED = {"step_ratio": "time", "forward_tera_macs": "flops_t", "memory_ratio": "memory_gb"}
"""Our quantity, and the paper's column that is about the same thing, in the paper's own unit."""


def render(data: CostTable) -> str:
    """Write the table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for found in data.methods:
        for row in found.rows:
            for line in _lines(row):
                writer.writerow(_common(data, found, row) | line)
    return text.getvalue()


def _common(data: CostTable, found: MethodCost, row: VariantRow) -> dict[str, Any]:
    return {
        "table": data.table.name,
        "scale": data.grid.scale.name,
        "benchmark": data.grid.benchmark.name,
        "backbone": data.grid.backbone,
        "task": found.task.name,
        "method": found.method,
        "variant": row.variant.name,
        "state": row.left_out or found.measurement.reason or found.measurement.state.value,
    }


def _lines(row: VariantRow) -> Iterator[dict[str, Any]]:
    for name in ("step_ratio", "own_share"):
        yield _printed(row, name) | _spread(getattr(row, name))
    for name in ("memory_ratio", "flops_ratio", "forward_tera_macs", "extra_ops"):
        value = getattr(row, name)
        yield _printed(row, name) | {"median": "" if value is None else repr(value)}


def _printed(row: VariantRow, quantity: str) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "paper_printed": row.printed.get(PRINTED.get(quantity, ""), ""),
    }


def _spread(found: Quartiles | None) -> dict[str, str]:
    if found is None:
        return {}
    ends = {"low": found.low, "high": found.high}
    return {"median": repr(found.median)} | {
        name: "" if value is None else repr(value) for name, value in ends.items()
    }
