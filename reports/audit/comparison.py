"""One printed number held against another: what may be between the two, and the verdict."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from reports.audit.check import VIT, Check, Standing
from reports.published import PublishedRow, PublishedTable, parse_printed


class Verdict(Enum):
    """How a printed number stands to what it is held against."""

    AGREES = "agrees"
    WITHIN_ROUNDING = "agrees within rounding"
    REPEATS = "repeats another row"
    DIFFERS = "differs"


AGREE = (Verdict.AGREES.value, Verdict.WITHIN_ROUNDING.value)


class Tolerance(NamedTuple):
    """How far two printed numbers may be apart: to agree, and to agree within rounding."""

    exact: Fraction
    rounding: Fraction


COPY = Tolerance(Fraction(0), Fraction(0))
"""One quantity printed in two places: rounded from one value, it is the same number."""
SUM = Tolerance(Fraction(0), Fraction(1, 10))
"""A sum or difference of numbers printed to one digit. Three of them, each off by at most 0.05, are off by at
most 0.15 together, of which 0.1 is all that can be seen in one digit."""
MEAN = Tolerance(Fraction(1, 20), Fraction(1, 10))
"""The mean of cells printed to one digit: it rounds to the printed number, or may with more digits."""

RULE = (
    "A number printed twice must be the same. A sum or difference of numbers printed to one digit may be off "
    "by 0.1, and agrees within rounding. A mean of cells agrees if it rounds to the printed number, and "
    "within rounding if it is off by at most 0.1."
)


def judge(printed: Fraction, other: Fraction, tolerance: Tolerance) -> Verdict:
    """Compare a printed number with another one."""
    distance = abs(printed - other)
    if distance <= tolerance.exact:
        return Verdict.AGREES
    return Verdict.WITHIN_ROUNDING if distance <= tolerance.rounding else Verdict.DIFFERS


class Place(NamedTuple):
    """Where a number is printed: table or section, row, column, part of a table."""

    table: str
    row: str
    what: str
    part: str = VIT


def hold(
    place: Place,
    printed: str,
    other: Decimal | Fraction,
    *,
    source: str,
    tolerance: Tolerance = COPY,
    remark: str = "",
    reason: str = "",
) -> Check:
    """Hold a printed number, whose arrow is a sign, against another; ``remark``: said if they agree."""
    verdict = judge(Fraction(parse_printed(printed)), Fraction(other), tolerance)
    shown = str(other) if isinstance(other, Decimal) else f"{float(other):.3f}"
    said = remark if verdict.value in AGREE else reason
    return found(place, printed, shown, source, verdict, said)


def found(
    place: Place, printed: str, recomputed: str, source: str, verdict: Verdict, reason: str
) -> Check:
    """What was found of a printed number."""
    return Check(
        *("deltas", place.table, place.part, place.row, place.what, printed, recomputed, source),
        verdict=verdict.value,
        reason=reason,
        standing=Standing.FOLLOWS if verdict.value in AGREE else Standing.DOES_NOT,
    )


def row_of(table: PublishedTable, method: str) -> PublishedRow:
    """The row of a method, as printed, which has to be there."""
    row = table.row(method)
    assert row is not None, (table.name, method)
    return row
