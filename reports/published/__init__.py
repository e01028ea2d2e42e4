"""What the paper printed, as data: one TOML a table, read with every digit as it was typed.

Three kinds of table. Tables 2 and 5 print a number a task: cells are ``Decimal``, so nothing is lost between
the page and the comparison; a row that is printed as changes ("0.7 ↑") keeps its changes here too, and
``PublishedTable.absolute`` adds them to the row that they refer to. Tables 1, 3 and 4 have parts, two
benchmarks or two backbones: every cell is kept as it was typed, with its arrow, since some of these rows are
misprints, which no number can stand for; ``remark`` says so. Table 6 is of costs. ``cells`` has all of them
by method and column.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).parent
DOWN_ARROW = "↓"
UP_ARROW = "↑"


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One printed row: accuracies, or, where ``delta_over`` is set, changes over that row."""

    method: str
    label: str
    section: str
    params_m: Decimal
    delta_over: str | None
    cells: dict[str, Decimal]
    average: Decimal
    all_set_average: Decimal


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One printed table; ``groups`` maps each group to its tasks in printed order."""

    name: str
    title: str
    benchmark: str
    groups: dict[str, tuple[str, ...]]
    rows: tuple[PublishedRow, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks in printed order."""
        return tuple(task for tasks in self.groups.values() for task in tasks)

    def row(self, method: str) -> PublishedRow | None:
        """The row of a method, None where the paper has none."""
        return next((row for row in self.rows if row.method == method), None)

    def absolute(self, method: str) -> PublishedRow | None:
        """The row as accuracies, printed changes added to their base row; None if not there."""
        row = self.row(method)
        if row is None or row.delta_over is None:
            return row
        base = self.row(row.delta_over)
        if base is None:
            raise ValueError(
                f"{self.name}: {method!r} changes {row.delta_over!r}, which has no row"
            )
        return PublishedRow(
            method=row.method,
            label=row.label,
            section=row.section,
            params_m=row.params_m,
            delta_over=None,
            cells={task: base.cells[task] + row.cells[task] for task in self.tasks},
            average=base.average + row.average,
            all_set_average=base.all_set_average + row.all_set_average,
        )


@cache
def load(name: str) -> PublishedTable:
    """Read ``published/<name>.toml``, of a table with a number a task."""
    raw = _raw(name)
    groups = {group: tuple(tasks) for group, tasks in raw["groups"].items()}
    rows = tuple(_row(entry, groups, where=f"{name}.toml") for entry in raw["rows"])
    return PublishedTable(
        name=raw["table"], title=raw["title"], benchmark=raw["benchmark"], groups=groups, rows=rows
    )


@cache
def _raw(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"no published table {name!r}; there are: {', '.join(names())}")
    return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


def names() -> tuple[str, ...]:
    """The published tables there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("table*.toml")))


def parse_printed(cell: Decimal | int | str) -> Decimal:
    """A printed cell as a signed number: ``74.3`` as it is, ``"0.2 ↓"`` as -0.2."""
    if not isinstance(cell, str):
        return Decimal(cell)
    number, _, arrow = cell.partition(" ")
    if arrow not in ("", UP_ARROW, DOWN_ARROW):
        raise ValueError(f"cannot read the printed cell {cell!r}: expected a number and an arrow")
    return -Decimal(number) if arrow == DOWN_ARROW else Decimal(number)


def _row(entry: dict[str, Any], groups: dict[str, tuple[str, ...]], where: str) -> PublishedRow:
    cells: dict[str, Decimal] = {}
    for group, tasks in groups.items():
        if len(entry[group]) != len(tasks):
            row = f"{where}: row {entry['method']!r}"
            raise ValueError(f"{row} has {len(entry[group])} cells in {group}, not {len(tasks)}")
        cells.update(zip(tasks, map(parse_printed, entry[group]), strict=True))
    return PublishedRow(
        method=entry["method"],
        label=entry["label"],
        section=entry["section"],
        params_m=Decimal(entry["params_m"]),
        delta_over=entry.get("delta_over"),
        cells=cells,
        average=parse_printed(entry["average"]),
        all_set_average=parse_printed(entry["all_set_average"]),
    )


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
    """Read ``published/<name>.toml``, of a table that has parts."""
    raw = _raw(name)
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


@dataclass(frozen=True, kw_only=True)
class PublishedCosts:
    """One printed table.

    Attributes:
        columns: Name of each column, with its printed heading.
        labels: Printed name of each method, in printed order.
        cells: Printed text by method and column.
    """

    columns: dict[str, str]
    labels: dict[str, str]
    cells: dict[str, dict[str, str]]


@cache
def load_costs(name: str) -> PublishedCosts:
    """Read ``published/<name>.toml``, of costs."""
    raw = _raw(name)
    columns = raw["columns"]
    return PublishedCosts(
        columns=columns,
        labels={row["method"]: row["label"] for row in raw["rows"]},
        cells={row["method"]: dict(zip(columns, row["cells"], strict=True)) for row in raw["rows"]},
    )


@dataclass(frozen=True)
class Cells:
    """What a table printed, by method and column: as printed, and as an accuracy where that is a change."""

    by_column: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def printed(self, method: str, column: str) -> str:
        """The text as printed; empty where there is none."""
        return self.by_column.get((method, column), ("", ""))[0]

    def both(self, method: str, column: str) -> dict[str, Any]:
        """Both, as the columns of a table's CSV."""
        printed, value = self.by_column.get((method, column), ("", ""))
        return {"paper_printed": printed, "paper": value}

    def change(self, method: str, rival: str, column: str) -> str:
        """The change between two methods' accuracies; empty where one is not there."""
        ours, theirs = (self.by_column.get((one, column), ("", ""))[1] for one in (method, rival))
        return f"{Decimal(ours) - Decimal(theirs):+}" if ours and theirs else ""


def cells(name: str, backbone: str | None = None) -> Cells:
    """All cells of a table; of one with parts, of the part on a backbone. Empty where there is no table."""
    rows = (row for row in _entries(name) if name not in PARTED or row[1] == backbone)
    return Cells({(method, column): found for _, _, method, column, *found in rows})  # type: ignore[misc]


def frame() -> pd.DataFrame:
    """Every printed cell of Tables 1 to 6, to be joined with ``reports.load()`` in a notebook."""
    import pandas as pd

    titles = ["table", "backbone", "method", "column", "printed", "value"]
    return pd.DataFrame([row for name in names() for row in _entries(name)], columns=titles)


PARTED = ("table1", "table3", "table4")


def _entries(name: str) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Table, backbone, method, column, text as printed, and as an accuracy if that can be said."""
    if name in PARTED:
        for part in load_parts(name).parts:
            for one in part.rows:
                for column, text in one.cells.items():
                    yield name, part.backbone, one.method, column, text, ""
    elif name == "table6":
        for method, of in load_costs(name).cells.items():
            for column, text in of.items():
                yield name, "vit_b16", method, column, text, ""
    elif name in names():
        table = load(name)
        for row in table.rows:
            absolute = table.absolute(row.method) or row
            for task in table.tasks:
                pair = str(row.cells[task]), str(absolute.cells[task])
                yield name, "vit_b16", row.method, task, *pair
            for column in ("average", "all_set_average", "params_m"):
                pair = str(getattr(row, column)), str(getattr(absolute, column))
                yield name, "vit_b16", row.method, column, *pair
