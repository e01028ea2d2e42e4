"""One printed number held against another: what may be between the two, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from reports.audit.check import VIT
from reports.published import PublishedRow, PublishedTable, parse_printed


class Verdict(Enum):
    """How a printed number stands to what it is held against."""

    AGREES = "agrees"
    WITHIN_ROUNDING = "agrees within rounding"
    REPEATS = "repeats another row"
    DIFFERS = "differs"

    @property
    def does_agree(self) -> bool:
        """Whether the two can be the same number."""
        return self in (Verdict.AGREES, Verdict.WITHIN_ROUNDING)


@dataclass(frozen=True)
class Tolerance:
    """How far two printed numbers may be apart.

    Attributes:
        exact: Up to here they agree.
        rounding: Up to here they agree within rounding.
    """

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


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A printed number and what it is held against.

    Attributes:
        place: Where it is printed.
        printed: As printed.
        recomputed: What it is held against, with the digits that it has.
        source: Where that comes from.
        verdict: How the two compare.
        reason: What is known about it; empty where nothing is.
    """

    place: Place
    printed: str
    recomputed: str
    source: str
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Some printed numbers held against others.

    Attributes:
        title: What is held against what.
        deltas: One number each.
    """

    title: str
    deltas: tuple[Delta, ...]


def hold(
    place: Place,
    printed: str,
    other: Decimal | Fraction,
    *,
    source: str,
    tolerance: Tolerance = COPY,
    remark: str = "",
    reason: str = "",
) -> Delta:
    """Hold a printed number, whose arrow is a sign, against another.

    Args:
        place: Where it is printed.
        printed: As printed.
        other: The other number.
        source: Where that comes from.
        tolerance: How far they may be apart.
        remark: What there is to say if they agree.
        reason: What there is to say if they do not.
    """
    verdict = judge(Fraction(parse_printed(printed)), Fraction(other), tolerance)
    shown = str(other) if isinstance(other, Decimal) else f"{float(other):.3f}"
    return Delta(
        place=place,
        printed=printed,
        recomputed=shown,
        source=source,
        verdict=verdict,
        reason=remark if verdict.does_agree else reason,
    )


def row_of(table: PublishedTable, method: str) -> PublishedRow:
    """The row of a method, as printed, which has to be there."""
    row = table.row(method)
    if row is None:
        raise ValueError(f"{table.name} has no row {method!r}")
    return row


def titled(table: str) -> str:
    """``Table 2`` for ``table2``."""
    return f"Table {table.removeprefix('table')}"


def added(base: Decimal, change: Decimal) -> str:
    """A sum as it is written: ``73.7 + 0.2``, ``94.1 - 0.2``."""
    return f"{base} {'-' if change < 0 else '+'} {abs(change)}"


def all_agree(deltas: Iterable[Delta]) -> bool:
    """Whether every number agrees, to the digit."""
    return all(delta.verdict is Verdict.AGREES for delta in deltas)
