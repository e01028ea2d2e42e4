"""Does a printed average follow from the printed cells beside it?

All arithmetic is on ``Fraction``, so a verdict never hangs on a float. Three verdicts:

- FOLLOWS: the mean of the printed cells, rounded to one digit, is the printed average (distance at
  most 0.05). A row of changes also follows if the printed change is the difference of two averages
  that were each rounded first.
- CELL_ROUNDING: it does not follow, but cells that round to the printed ones exist for which it
  would. Each cell is off by at most 0.05, and a mean, whose weights sum to one, moves by no more
  than that, so: distance at most 0.10.
- IMPOSSIBLE: no cells that round to the printed ones have this average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from fractions import Fraction

from reports.published import PublishedRow, PublishedTable

HALF_DIGIT = Fraction(1, 20)
PRINTED_DIGIT = Decimal("0.1")


class Verdict(Enum):
    """How a printed average stands to its cells."""

    FOLLOWS = "follows"
    CELL_ROUNDING = "does not follow, within the rounding of the cells"
    IMPOSSIBLE = "does not follow, beyond the rounding of the cells"


@dataclass(frozen=True, kw_only=True)
class AverageCheck:
    """One printed average beside the one its cells give."""

    table: str
    method: str
    average: str
    printed: Decimal
    recomputed: Fraction
    verdict: Verdict

    @property
    def follows(self) -> bool:
        """Whether the printed number is the one the cells give, to its printed digit."""
        return self.verdict is Verdict.FOLLOWS


def check_averages(table: PublishedTable) -> list[AverageCheck]:
    """Recompute both averages of every row: of the group means and of all tasks."""
    return [
        _check(table, row, average)
        for row in table.rows
        for average in ("average", "all_set_average")
    ]


def _check(table: PublishedTable, row: PublishedRow, average: str) -> AverageCheck:
    printed: Decimal = getattr(row, average)
    recomputed = recompute(table, row, average)
    distance = abs(recomputed - Fraction(printed))
    if distance <= HALF_DIGIT or printed == _change_of_rounded_averages(table, row, average):
        verdict = Verdict.FOLLOWS
    elif distance <= 2 * HALF_DIGIT:
        verdict = Verdict.CELL_ROUNDING
    else:
        verdict = Verdict.IMPOSSIBLE
    return AverageCheck(
        table=table.name,
        method=row.method,
        average=average,
        printed=printed,
        recomputed=recomputed,
        verdict=verdict,
    )


def recompute(table: PublishedTable, row: PublishedRow, average: str) -> Fraction:
    """The exact mean of the group means, or (``all_set_average``) of all cells."""
    if average == "all_set_average":
        return _mean([Fraction(row.cells[task]) for task in table.tasks])
    groups = table.groups.values()
    return _mean([_mean([Fraction(row.cells[task]) for task in tasks]) for tasks in groups])


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


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)
