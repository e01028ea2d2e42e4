"""The audit of averages: those that do not follow from what is printed beside them, or all."""

from __future__ import annotations

from collections.abc import Sequence

from reports.audit.averages import AverageCheck
from reports.audit.check import VIT, Check, Standing
from reports.audit.layout import Column, Listing, Section

COLUMNS = (
    Column("table", 8),
    Column("row", 22),
    Column("mean of", 12),
    Column("printed", 8, is_number=True),
    Column("recomputed", 10, is_number=True),
    Column("verdict", 50),
)
OF_CELLS = {"average": "group means", "all_set_average": "all tasks"}
READ_AS_ACCURACIES = "the row is read as accuracies, whatever its arrows say"


def listing(checks: Sequence[AverageCheck], *, with_all: bool) -> Listing:
    """Lay out the averages that do not follow; ``with_all``: those that do, too."""
    wrong = [check for check in checks if not check.follows]
    shown = tuple(map(_cells, checks if with_all else wrong))
    title = "All averages" if with_all else "Averages that do not follow from their cells"
    return Listing(
        title="Averages: printed, and recomputed from the cells beside them",
        sections=(Section(f"{title}: Tables 2, 3, 4 and 5", COLUMNS, shown),),
        closing=f"{len(wrong)} of {len(checks)} printed averages do not follow from their cells",
        checks=tuple(map(_check, checks)),
    )


def _cells(found: AverageCheck) -> tuple[str, ...]:
    return (
        found.table,
        found.method,
        OF_CELLS[found.average],
        str(found.printed),
        f"{float(found.recomputed):.3f}",
        found.verdict.value,
    )


def _check(found: AverageCheck) -> Check:
    is_misprint = found.table == "table3" and "+" in found.method
    return Check(
        audit="averages",
        table=found.table,
        part=found.part or VIT,
        row=found.method,
        what=found.average,
        printed=str(found.printed),
        recomputed=f"{float(found.recomputed):.3f}",
        source=f"mean of {OF_CELLS[found.average]}",
        verdict=found.verdict.value,
        reason=READ_AS_ACCURACIES if is_misprint else "",
        standing=Standing.FOLLOWS if found.follows else Standing.DOES_NOT,
    )
