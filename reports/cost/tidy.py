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
    writer.writerows(_accuracies(data))
    return text.getvalue()


def _accuracies(data: CostTable) -> Iterator[dict[str, Any]]:
    """Yield what the records of VTAB-1K come to, in %, the mean of all tasks; changes in points."""
    grid = data.accuracy_grid
    for method, row in data.accuracies.items():
        common = {
            "table": data.table.name,
            "scale": grid.scale.name,
            "benchmark": grid.benchmark.name,
            "backbone": grid.backbone,
            "method": method,
        }
        mean = row.all_set_average
        yield common | {
            "quantity": "accuracy",
            "median": "" if mean is None else repr(mean.mean),
            "paper_printed": data.paper.cells[method]["accuracy"],
        }
        for name in ("over_base", "over_control"):
            found = getattr(row, name)
            ends = (
                {}
                if found is None
                else {"median": found.mean, "low": found.low, "high": found.high}
            )
            if "+" in method:
                yield common | {"quantity": f"accuracy_{name}"} | _numbers(ends)


def _numbers(values: dict[str, float | None]) -> dict[str, str]:
    return {name: "" if value is None else repr(value) for name, value in values.items()}


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
    return _numbers({"median": found.median, "low": found.low, "high": found.high})
