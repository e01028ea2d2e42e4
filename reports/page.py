"""A page of text cells, as Markdown, LaTeX, HTML and terminal lay it out.

Texts are plain Unicode ("±", "Δ", "↑"); each renderer escapes them for its own format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

HOLE = "--"
FAILED = "x"
NOT_IN_SUITE = "n/a"
NOTHING = ""


class Entry(NamedTuple):
    """A cell.

    Attributes:
        text: Its text.
        small: What stands smaller behind it: the spread, and n where that is less than declared.
        marks: The letters of its footnotes.
        value: The number, by which a column is sorted.
        paper: What the paper printed in its place.
        cell: Where its records are.
    """

    text: str
    small: str = ""
    marks: str = ""
    value: float | None = None
    paper: str = ""
    cell: str = ""

    @property
    def whole(self) -> str:
        """The text with what stands behind it."""
        return f"{self.text} {self.small}".rstrip()


class Column(NamedTuple):
    """Heading of a column; a line break is a place where it may be broken.

    Attributes:
        title: The heading.
        group: Heading of several columns; a block that has groups is wide.
        in_terminal: Whether it is shown where the width is short.
        is_paper: Whether its numbers are the paper's.
    """

    title: str
    group: str | None = None
    in_terminal: bool = True
    is_paper: bool = False


class Row(NamedTuple):
    """A row: its name, its cells, a heading above it, and the command that fills its holes."""

    name: str
    cells: tuple[Entry, ...]
    section: str = ""
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One rectangle of a table: the first column holds the names of the rows.

    Attributes:
        title: What it shows.
        corner: What a row is.
        across: What a column is, where rows and columns change places.
        columns: All columns but the first.
        rows: The rows.
        is_text: Whether its cells are sentences, which may have several lines, and not numbers.
    """

    title: str
    corner: str = "method"
    across: str = ""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    is_text: bool = False

    @property
    def is_grouped(self) -> bool:
        """Whether the columns have groups."""
        return any(column.group for column in self.columns)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """The groups of the columns, and how many stand together."""
        runs = groupby(self.columns, key=lambda column: column.group or "")
        return [(group, len(list(columns))) for group, columns in runs]

    def row(self, name: str) -> dict[str, Entry]:
        """The cells of a row by heading.

        Raises:
            KeyError: There is no such row.
        """
        cells = {row.name: row.cells for row in self.rows}[name]
        titles = (column.title.replace("\n", " ") for column in self.columns)
        return dict(zip(titles, cells, strict=True))

    def with_columns(self, kept: Iterable[int]) -> Block:
        """The block with some of its columns."""
        indices = list(kept)
        rows = (row._replace(cells=tuple(row.cells[i] for i in indices)) for row in self.rows)
        columns = tuple(self.columns[index] for index in indices)
        return replace(self, columns=columns, rows=tuple(rows))

    def split_by_group(self) -> Iterable[Block]:
        """One narrower block for each group of columns; a block without groups as it is."""
        if not self.is_grouped:
            yield self
            return
        for group in dict.fromkeys(column.group for column in self.columns):
            kept = [index for index, column in enumerate(self.columns) if column.group == group]
            yield replace(self.with_columns(kept), title=f"{self.title}: {group}")

    def transposed(self) -> Block:
        """Rows as columns; a name breaks before its suffix."""
        return Block(
            title=self.title,
            corner=self.across,
            across=self.corner,
            columns=tuple(Column(row.name.replace("+", "\n+")) for row in self.rows),
            rows=tuple(
                Row(column.title.replace("\n", " "), tuple(row.cells[index] for row in self.rows))
                for index, column in enumerate(self.columns)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Page:
    """All there is to lay out: heading, warning, legend, our blocks, footnotes, the paper's blocks."""

    title: str
    warning: str | None = None
    legend: tuple[str, ...]
    ours: tuple[Block, ...]
    paper: tuple[Block, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
