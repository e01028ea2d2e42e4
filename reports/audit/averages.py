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
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from fractions import Fraction

from reports import published
from reports.published import Part, PartedTable, PartRow, PublishedRow, PublishedTable

HALF_DIGIT = Fraction(1, 20)
PRINTED_DIGIT = Decimal("0.1")
GROUPS = ("natural", "specialized", "structured")
"""The columns of Tables 3 and 4 that hold the means of the groups."""


class Verdict(Enum):
    """How a printed average stands to its cells."""

    FOLLOWS = "follows"
    CELL_ROUNDING = "does not follow, within the rounding of the cells"
    IMPOSSIBLE = "does not follow, beyond the rounding of the cells"


@dataclass(frozen=True, kw_only=True)
class AverageCheck:
    """One printed average beside the one its cells give.

    Attributes:
        table: Name of the table.
        part: Heading of a part of it; empty where there are none.
        method: Name of the method.
        average: ``average``: of the group means; ``all_set_average``: of all cells.
        printed: The printed number.
        recomputed: The exact mean of the printed cells.
        verdict: How the two compare.
    """

    table: str
    part: str = ""
    method: str
    average: str
    printed: Decimal
    recomputed: Fraction
    verdict: Verdict

    @property
    def follows(self) -> bool:
        """Whether the printed number is the one the cells give, to its printed digit."""
        return self.verdict is Verdict.FOLLOWS


def check_all() -> list[AverageCheck]:
    """Recompute every average that the paper prints beside cells or group means: Tables 2 to 5."""
    return [
        *check_averages(published.load("table2")),
        *check_group_means(published.load_parts("table3")),
        *check_group_means(published.load_parts("table4")),
        *check_averages(published.load("table5")),
    ]


def check_averages(table: PublishedTable) -> list[AverageCheck]:
    """Recompute both averages of every row: of the group means and of all tasks."""
    return [
        _check(table, row, average)
        for row in table.rows
        for average in ("average", "all_set_average")
    ]


def check_group_means(table: PartedTable) -> list[AverageCheck]:
    """Hold the average of every row against its three printed group means."""
    return [_check_row(table, part, row) for part in table.parts for row in part.rows]


def _check_row(table: PartedTable, part: Part, row: PartRow) -> AverageCheck:
    printed = row.number("average")
    recomputed = mean([Fraction(row.number(group)) for group in GROUPS])
    return AverageCheck(
        table=table.name,
        part=part.name,
        method=row.method,
        average="average",
        printed=printed,
        recomputed=recomputed,
        verdict=_verdict(printed, recomputed),
    )


def _check(table: PublishedTable, row: PublishedRow, average: str) -> AverageCheck:
    printed: Decimal = getattr(row, average)
    recomputed = recompute(table, row, average)
    verdict = _verdict(printed, recomputed)
    if printed == _change_of_rounded_averages(table, row, average):
        verdict = Verdict.FOLLOWS
    return AverageCheck(
        table=table.name,
        method=row.method,
        average=average,
        printed=printed,
        recomputed=recomputed,
        verdict=verdict,
    )


def _verdict(printed: Decimal, recomputed: Fraction) -> Verdict:
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
