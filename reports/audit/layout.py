"""A listing of an audit as text: tables with notes for the terminal or Markdown, or its checks as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from textwrap import fill

from tabulate import tabulate

from reports.audit.check import Check
from reports.render import md as escape

WIDTH = 120
GAP = 2

COLUMNS = "audit table part row what printed recomputed recomputed_from verdict reason".split()
"""Of every CSV; that of one audit may have more behind them."""


@dataclass(frozen=True)
class Column:
    """A column of a section.

    Attributes:
        heading: Its heading; a line break is a place where it may be broken.
        width: Most characters of a line in the terminal.
        is_number: Whether its cells stand to the right.
    """

    heading: str
    width: int
    is_number: bool = False


@dataclass(frozen=True)
class Section:
    """A table with its heading and the notes below it; without rows, the notes alone."""

    title: str
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an audit has to say.

    Attributes:
        title: Its heading.
        sections: Its tables.
        closing: What it comes to, in a sentence or two.
        checks: All printed values that it looked at, those left out of the tables too.
    """

    title: str
    sections: tuple[Section, ...]
    closing: str
    checks: tuple[Check, ...] = ()


class Notes:
    """Sentences below a table, each with the letter by which cells refer to it."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the mark of a sentence, which is a new one if the sentence is."""
        return f"[{self._letters.setdefault(text, ascii_lowercase[len(self._letters)])}]"

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentences with their marks."""
        return tuple(
            f"[{letter}] {text[0].upper()}{text[1:]}." for text, letter in self._letters.items()
        )


def terminal(listing: Listing) -> str:
    """Lay out as tables no wider than ``WIDTH`` columns, with notes below each."""
    parts = [f"{listing.title}\n{'=' * len(listing.title)}"]
    for section in listing.sections:
        parts.append(_filled(section.title))
        if section.rows:
            widths = [column.width for column in section.columns]
            rows = [list(map(_wrapped, row, widths)) for row in section.rows]
            parts.append(_table(section, rows, "simple"))
        if section.notes:
            parts.append("\n".join(map(_filled, section.notes)))
    return "\n\n".join([*parts, _filled(listing.closing, hang="")])


def markdown(listing: Listing) -> str:
    """Lay out as Markdown tables, with notes below each."""
    parts = [f"# {escape(listing.title)}"]
    for section in listing.sections:
        parts.append(f"## {escape(section.title)}")
        if section.rows:
            rows = [list(map(escape, row)) for row in section.rows]
            parts.append(_table(section, rows, "pipe"))
        if section.notes:
            parts.append("\n".join(f"- {escape(line)}" for line in section.notes))
    return "\n\n".join([*parts, escape(listing.closing)])


def as_csv(checks: Sequence[Check], *, with_details: bool) -> str:
    """Lay out all checks as CSV; ``with_details``: with the columns of their one audit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    details = list(checks[0].details) if with_details and checks else []
    writer.writerow([*COLUMNS, *details])
    for check in checks:
        writer.writerow([*_common(check), *(check.details[name] for name in details)])
    return text.getvalue().rstrip("\n")


RENDERERS: dict[str, Callable[[Listing], str]] = {"terminal": terminal, "markdown": markdown}
FORMATS = (*RENDERERS, "csv")


def _common(check: Check) -> Iterable[str]:
    yield from (check.audit, check.table, check.part, check.row, check.what, check.printed)
    yield from (check.recomputed, check.source, check.verdict, check.reason)


def _table(section: Section, rows: list[list[str]], style: str) -> str:
    is_pipe = style == "pipe"
    text: str = tabulate(
        rows,
        headers=[
            column.heading.replace("\n", " ") if is_pipe else column.heading
            for column in section.columns
        ],
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if column.is_number else "left" for column in section.columns],
    )
    return text


def _wrapped(cell: str, width: int) -> str:
    return fill(cell, width, break_on_hyphens=False)


def _filled(line: str, hang: str = "    ") -> str:
    return fill(line, WIDTH, subsequent_indent=hang, break_on_hyphens=False)
