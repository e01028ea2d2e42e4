"""Rows that repeat another row (Table 3), and parameters that one method has in several rows and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from reports import published
from reports.audit.averages import GROUPS
from reports.audit.check import VIT
from reports.audit.comparison import Delta, Place, Verdict, hold, titled
from reports.published import DOWN_ARROW, UP_ARROW, Part, PartRow

NUMBERS = (*GROUPS, "average")
TABLES_WITH_PARAMETERS = (1, 2, 3, 4, 5)


def repeated_rows() -> tuple[Delta, ...]:
    """Hold each row of Table 3 with a penalty against the rows without one beside it."""
    return tuple(
        _repeated(part, row, what)
        for part in published.load_parts("table3").parts
        for row in part.rows
        if "+" in row.method
        for what in NUMBERS
    )


def _repeated(part: Part, row: PartRow, what: str) -> Delta:
    """A number of such a row: it is another row's where all four are, else a rise or fall as its arrow says.

    As a change, "82.2 ↑" would lead above 100 %; so it is read as an accuracy.
    """
    base = _base(part, row)
    change = row.number(what) - base.number(what)
    has_arrow = _arrow(change) == row.cells[what].partition(" ")[2]
    rows = [one for one in part.rows if "+" not in one.method]
    other = next((one for one in rows if _numbers(one) == _numbers(row)), None)
    if other is not None:
        reason = f"all four numbers are those of {_name(other)}"
        if not has_arrow:
            reason += f", and the arrow is wrong: {_moved(row, base, what)}"
        verdict, shown, source = Verdict.REPEATS, other.cells[what], other.method
    else:
        verdict = Verdict.AGREES if has_arrow else Verdict.DIFFERS
        reason = "" if has_arrow else f"the arrow is wrong: {_moved(row, base, what)}"
        shown, source = base.cells[what], base.method
    return Delta(
        place=Place("table3", row.method, what, part.name),
        printed=row.cells[what],
        recomputed=shown,
        source=f"Table 3, {source}",
        verdict=verdict,
        reason=reason,
    )


def _base(part: Part, row: PartRow) -> PartRow:
    base = part.row(row.method.partition("+")[0])
    if base is None:
        raise ValueError(f"table3: {row.method!r} has no row without its penalty")
    return base


def _numbers(row: PartRow) -> list[Decimal]:
    return [row.number(what) for what in NUMBERS]


def _arrow(change: Decimal) -> str:
    if not change:
        return ""
    return UP_ARROW if change > 0 else DOWN_ARROW


def _moved(row: PartRow, base: PartRow, what: str) -> str:
    before, after = base.number(what), row.number(what)
    if before == after:
        return "nothing has changed"
    return f"{after} is {'below' if after < before else 'above'} {_name(base)}'s {before}"


def _name(row: PartRow) -> str:
    return row.label.partition(" [")[0]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Printed parameters of a row, in millions."""

    table: str
    part: str
    method: str
    number: Decimal


def parameters() -> tuple[Delta, ...]:
    """Hold parameters against those of the same method: a penalty has none of its own."""
    printed = list(_parameters())
    first: dict[tuple[str, str], Parameters] = {}
    deltas = []
    for one in printed:
        key = (one.part, one.method.partition("+")[0])
        if (other := first.setdefault(key, one)) is not one:
            deltas.append(
                hold(
                    Place(one.table, one.method, "params_m", one.part),
                    str(one.number),
                    other.number,
                    source=f"{titled(other.table)}, {other.method}",
                )
            )
    return tuple(deltas)


def _parameters() -> Iterator[Parameters]:
    """In printed order; Tables 2, 4 and 5 are on one network."""
    for number in TABLES_WITH_PARAMETERS:
        name = f"table{number}"
        if name in ("table2", "table5"):
            for entry in published.load(name).rows:
                yield Parameters(table=name, part=VIT, method=entry.method, number=entry.params_m)
        else:
            for part in published.load_parts(name).parts:
                for row in part.rows:
                    yield Parameters(
                        table=name, part=part.name, method=row.method, number=row.params_m
                    )
