"""What the paper printed, as data: one TOML a table, read with every digit as it was typed.

Cells are ``Decimal``, so nothing is lost between the page and the comparison. A row that the paper
prints as changes ("0.7 ↑") keeps its changes here too; ``PublishedTable.absolute`` adds them to the
row that they refer to.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

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
    """Read ``published/<name>.toml``."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"no published table {name!r}; there are: {', '.join(names())}")
    raw = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    groups = {group: tuple(tasks) for group, tasks in raw["groups"].items()}
    rows = tuple(_row(entry, groups, where=path.name) for entry in raw["rows"])
    return PublishedTable(
        name=raw["table"], title=raw["title"], benchmark=raw["benchmark"], groups=groups, rows=rows
    )


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
