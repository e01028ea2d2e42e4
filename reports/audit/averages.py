"""Does a printed average follow from the printed cells beside it?

All arithmetic is on ``Fraction``, so a verdict never hangs on a float. Three verdicts:

- FOLLOWS: the mean of the printed cells, rounded to one digit, is the printed average (distance at
  most 0.05). A row of changes also follows if the printed change is the difference of two averages
  that were each rounded first.
- CELL_ROUNDING: it does not follow, but cells that round to the printed ones exist for which it
  would. Each cell is off by at most 0.05, and a mean, whose weights sum to one, moves by no more
  than that, so: distance at most 0.10.
- IMPOSSIBLE: no cells that round to the printed ones have this average.

Tables 3 and 4 print the means of the groups and no cells, so there the average is held against these three.
A mean of a group is off by at most 0.05 too, and the same bounds hold. The rows of Table 3 with a penalty
are misprints (see ``PartRow.remark``): as changes their numbers make no sense, so they are read as
accuracies, whatever their arrows say. As such their averages follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from fractions import Fraction

from reports import published
from reports.audit.check import VIT, Check, Listing, Section, Standing
from reports.published import PartedTable, PublishedRow, PublishedTable

HALF_DIGIT = Fraction(1, 20)
PRINTED_DIGIT = Decimal("0.1")
GROUPS = ("natural", "specialized", "structured")
"""The columns of Tables 3 and 4 that hold the means of the groups."""
OF_CELLS = {"average": "group means", "all_set_average": "all tasks"}
READ_AS_ACCURACIES = "the row is read as accuracies, whatever its arrows say"


class Verdict(Enum):
    """How a printed average stands to its cells."""

    FOLLOWS = "follows"
    CELL_ROUNDING = "does not follow, within the rounding of the cells"
    IMPOSSIBLE = "does not follow, beyond the rounding of the cells"


def listing() -> Listing:
    """The averages that do not follow."""
    checks = [
        *check_averages(published.load("table2")),
        *check_group_means(published.load_parts("table3")),
        *check_group_means(published.load_parts("table4")),
        *check_averages(published.load("table5")),
    ]
    wrong = [one for one in checks if not one.follows]
    section = Section(
        title="Averages that do not follow from their cells: Tables 2, 3, 4 and 5",
        headings=("table", "row", "mean of", "printed", "recomputed", "verdict"),
        right=("printed", "recomputed"),
        rows=[
            (one.table, one.row, OF_CELLS[one.what], one.printed, one.recomputed, one.verdict)
            for one in wrong
        ],
    )
    return Listing(
        title="Averages: printed, and recomputed from the cells beside them",
        sections=[section],
        closing=f"{len(wrong)} of {len(checks)} printed averages do not follow from their cells",
        checks=checks,
    )


def check_averages(table: PublishedTable) -> list[Check]:
    """Recompute both averages of every row: of the group means and of all tasks."""
    found = []
    for row in table.rows:
        for what in OF_CELLS:
            printed, recomputed = getattr(row, what), recompute(table, row, what)
            verdict = judge(printed, recomputed)
            if printed == _change_of_rounded_averages(table, row, what):
                verdict = Verdict.FOLLOWS
            found.append(_check(table.name, VIT, row.method, what, printed, recomputed, verdict))
    return found


def check_group_means(table: PartedTable) -> list[Check]:
    """Hold the average of every row against its three printed group means."""
    found = []
    for part in table.parts:
        for row in part.rows:
            printed = row.number("average")
            recomputed = mean([Fraction(row.number(group)) for group in GROUPS])
            at = (table.name, part.name, row.method, "average")
            found.append(_check(*at, printed, recomputed, judge(printed, recomputed)))
    return found


def _check(
    table: str,
    part: str,
    row: str,
    what: str,
    printed: Decimal,
    recomputed: Fraction,
    verdict: Verdict,
) -> Check:
    return Check(
        *("averages", table, part, row, what, str(printed), f"{float(recomputed):.3f}"),
        recomputed_from=f"mean of {OF_CELLS[what]}",
        verdict=verdict.value,
        reason=READ_AS_ACCURACIES if table == "table3" and "+" in row else "",
        standing=Standing.FOLLOWS if verdict is Verdict.FOLLOWS else Standing.DOES_NOT,
    )


def judge(printed: Decimal, recomputed: Fraction) -> Verdict:
    """How far a printed average is from the mean of its cells."""
    distance = abs(recomputed - Fraction(printed))
    if distance <= HALF_DIGIT:
        return Verdict.FOLLOWS
    return Verdict.CELL_ROUNDING if distance <= 2 * HALF_DIGIT else Verdict.IMPOSSIBLE


def recompute(table: PublishedTable, row: PublishedRow, average: str) -> Fraction:
    """The exact mean of the group means, or (``all_set_average``) of all cells."""
    if average == "all_set_average":
        return mean([Fraction(row.cells[task]) for task in table.tasks])
    groups = table.groups.values()
    return mean([mean([Fraction(row.cells[task]) for task in tasks]) for tasks in groups])


def _change_of_rounded_averages(
    table: PublishedTable, row: PublishedRow, average: str
) -> Decimal | None:
    """The change between the rounded averages of the derived accuracies and of their base row."""
    base = table.row(row.delta_over) if row.delta_over else None
    absolute = table.absolute(row.method)
    if base is None or absolute is None:
        return None
    return _round(recompute(table, absolute, average)) - _round(recompute(table, base, average))


def _round(value: Fraction) -> Decimal:
    """To one digit, halves up, as tables are rounded by hand."""
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return exact.quantize(PRINTED_DIGIT, rounding=ROUND_HALF_UP)


def mean(values: Sequence[Fraction]) -> Fraction:
    """The exact mean."""
    return sum(values, Fraction(0)) / len(values)
