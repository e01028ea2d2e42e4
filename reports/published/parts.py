"""What the paper printed in tables that have parts: two benchmarks (Table 1), or two backbones (Table 3).

Every cell is kept as it was typed, with its arrow: some of these rows are misprints, which no number can
stand for. ``remark`` says so.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from reports.published import FOLDER


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """One printed row of a part.

    Attributes:
        method: Name of the method in this suite.
        label: Its printed name.
        cells: Printed text by column.
        delta_over: The row that printed changes refer to; None where the numbers stand for themselves.
        remark: What is wrong with the row; None where nothing is.
    """

    method: str
    label: str
    cells: dict[str, str]
    delta_over: str | None = None
    remark: str | None = None

    @property
    def params_m(self) -> Decimal:
        """The printed number of trainable parameters, in millions, with its printed digits."""
        return self.number("params_m")

    def number(self, column: str) -> Decimal:
        """The number of a cell with its printed digits and without its arrow."""
        return Decimal(self.cells[column].partition(" ")[0])


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a printed table.

    Attributes:
        name: Its printed heading.
        benchmark: Name of the benchmark.
        backbone: Name of the backbone.
        columns: Name of each column, with its printed heading.
        rows: In printed order.
    """

    name: str
    benchmark: str
    backbone: str
    columns: dict[str, str]
    rows: tuple[PartRow, ...]

    def row(self, method: str) -> PartRow | None:
        """The row of a method, None where the paper has none."""
        return next((row for row in self.rows if row.method == method), None)


@dataclass(frozen=True, kw_only=True)
class PartedTable:
    """One printed table."""

    name: str
    title: str
    parts: tuple[Part, ...]


@cache
def load_parts(name: str) -> PartedTable:
    """Read ``published/<name>.toml``."""
    raw = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    parts = []
    for part in raw["parts"]:
        columns = part["columns"]
        rows = tuple(
            PartRow(
                method=row["method"],
                label=row["label"],
                cells=dict(zip(columns, row["cells"], strict=True)),
                delta_over=row.get("delta_over"),
                remark=row.get("remark"),
            )
            for row in part["rows"]
        )
        parts.append(
            Part(
                name=part["name"],
                benchmark=part["benchmark"],
                backbone=part["backbone"],
                columns=columns,
                rows=rows,
            )
        )
    return PartedTable(name=raw["table"], title=raw["title"], parts=tuple(parts))
