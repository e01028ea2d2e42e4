"""A page of text cells, as Markdown, LaTeX and terminal lay it out.

Texts are plain Unicode ("±", "Δ", "↑"); each renderer escapes them for its own format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

HOLE = "--"
FAILED = "x"
NOT_IN_SUITE = "n/a"
NOTHING = ""


class Entry(NamedTuple):
    """The text of a cell, and the letters of its footnotes."""

    text: str
    marks: str = ""


class Column(NamedTuple):
    """Heading of a column; a line break is a place where it may be broken.

    Attributes:
        title: The heading.
        group: Heading of several columns; a block that has groups is wide.
        in_terminal: Whether it is shown where the width is short.
    """

    title: str
    group: str | None = None
    in_terminal: bool = True


@dataclass(frozen=True, kw_only=True)
class Block:
    """One rectangle of a table: the first column holds the names of the rows.

    Attributes:
        title: What it shows.
        corner: What a row is.
        across: What a column is, where rows and columns change places.
        columns: All columns but the first.
        rows: Name and cells.
        is_text: Whether its cells are sentences, which may have several lines, and not numbers.
        sections: Headings inside the table: index of the row that each stands above, and its text.
    """

    title: str
    corner: str
    across: str = ""
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    sections: tuple[tuple[int, str], ...] = ()
    is_text: bool = False

    @property
    def is_grouped(self) -> bool:
        """Whether the columns have groups."""
        return any(column.group for column in self.columns)


@dataclass(frozen=True, kw_only=True)
class Page:
    """All there is to lay out: heading, warning, legend, our blocks, footnotes, the paper's blocks."""

    title: str
    warning: str | None
    legend: tuple[str, ...]
    ours: tuple[Block, ...]
    paper: tuple[Block, ...]
    notes: tuple[tuple[str, str], ...]


def split_by_group(block: Block) -> Iterable[Block]:
    """One narrower block for each group of columns; a block without groups as it is."""
    if not block.is_grouped:
        yield block
        return
    for group in dict.fromkeys(column.group for column in block.columns):
        kept = [index for index, column in enumerate(block.columns) if column.group == group]
        yield replace(with_columns(block, kept), title=f"{block.title}: {group}")


def with_columns(block: Block, kept: Iterable[int]) -> Block:
    """The block with some of its columns."""
    indices = list(kept)
    return replace(
        block,
        columns=tuple(block.columns[index] for index in indices),
        rows=tuple((name, tuple(cells[index] for index in indices)) for name, cells in block.rows),
    )


def transposed(block: Block) -> Block:
    """Rows as columns; a name breaks before its suffix."""
    return Block(
        title=block.title,
        corner=block.across,
        across=block.corner,
        columns=tuple(Column(name.replace("+", "\n+")) for name, _ in block.rows),
        rows=tuple(
            (column.title.replace("\n", " "), tuple(cells[index] for _, cells in block.rows))
            for index, column in enumerate(block.columns)
        ),
    )
