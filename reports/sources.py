"""The records behind a table: one line each, with the hash that seals it."""

from __future__ import annotations

import csv
import io

from benchmarks.harness.spec import Table
from reports.grid import Grid
from reports.measurement import Measurement

FIELDS = (
    "table",
    "backbone",
    "method",
    "task",
    "seed",
    "record",
    "record_sha256",
    "commit",
    "dirty",
)


def behind(table: Table, grid: Grid) -> list[Measurement]:
    """Return what there is for every cell that a table is about, in the declared order."""
    return [
        found
        for (method, _), measurements in grid.measurements.items()
        for found in measurements
        # The rows of a table of costs are not the methods of its cells: it is about all of them.
        if grid.benchmark.is_timed or method in table.rows
    ]


def used(table: Table, grid: Grid) -> list[Measurement]:
    """Return the measurements whose records a table's numbers come from, in the declared order."""
    return [found for found in behind(table, grid) if found.record is not None]


def render(table: Table, grid: Grid) -> str:
    """Write the records of a table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for found in used(table, grid):
        assert found.record is not None
        writer.writerow(
            {
                "table": table.name,
                "backbone": found.cell.backbone,
                "method": found.cell.method,
                "task": found.cell.task,
                "seed": found.cell.seed,
                "record": found.path,
                "record_sha256": found.record["record_sha256"],
                "commit": found.record["code"].get("commit"),
                "dirty": found.record["code"].get("dirty"),
            }
        )
    return text.getvalue()
