"""The records behind a table: one line each, with the hash that seals it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

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


def render(name: str, behind: Iterable[Measurement]) -> str:
    """Write the records that the numbers of a table come from as CSV, of what is behind it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for found in behind:
        if found.record is None:
            continue
        writer.writerow(
            {
                "table": name,
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
