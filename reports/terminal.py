"""A page for the terminal: the means, then the tasks as rows and the methods as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from textwrap import fill

from reports.blocks import Block, Column, Entry, Page, transposed

WIDTH = 138
WORD = 8


def render(page: Page, width: int = WIDTH) -> str:
    """Lay out a page for a terminal of so many columns."""
    parts = [fill(page.title, width)]
    if page.warning:
        parts.append(fill(f"!! {page.warning}", width, subsequent_indent="   "))
    parts.append(_grid(_without_column(page.means, "paper\nparams")))
    by_task = transposed(page.by_task, "task")
    parts += [_grid(block) for block in _chunks(by_task, width)]
    parts.append("\n".join(fill(line, width, subsequent_indent="  ") for line in page.legend))
    if page.notes:
        notes = (f"[{letter}] {text}" for letter, text in page.notes)
        parts.append("\n".join(fill(note, width, subsequent_indent="    ") for note in notes))
    return "\n\n".join(parts)


def _without_column(block: Block, title: str) -> Block:
    """The block without a column that the files have, to fit the width."""
    kept = [index for index, column in enumerate(block.columns) if column.title != title]
    rows = tuple((name, tuple(cells[index] for index in kept)) for name, cells in block.rows)
    return replace(block, columns=tuple(block.columns[index] for index in kept), rows=rows)


def _chunks(block: Block, width: int) -> Iterator[Block]:
    """The block cut into pieces of columns that fit."""
    label = max(len(name) for name, _ in block.rows)
    start, used = 0, label
    for index, column in enumerate(block.columns):
        needed = 2 + _column_width(block, index, column)
        if used + needed > width and index > start:
            yield _columns(block, start, index)
            start, used = index, label
        used += needed
    if start < len(block.columns):
        yield _columns(block, start, len(block.columns))


def _columns(block: Block, start: int, stop: int) -> Block:
    rows = tuple((name, cells[start:stop]) for name, cells in block.rows)
    return replace(block, columns=block.columns[start:stop], rows=rows)


def _column_width(block: Block, index: int, column: Column) -> int:
    heading = max(map(len, _heading(column.title)))
    return max(heading, *(len(_text(cells[index])) for _, cells in block.rows))


def _grid(block: Block) -> str:
    header = [[block.corner], *(_heading(column.title) for column in block.columns)]
    body = [[name, *map(_text, cells)] for name, cells in block.rows]
    depth = max(map(len, header))
    lines = [
        [(["", *lines] if len(lines) < depth else lines)[i] for lines in header]
        for i in range(depth)
    ]
    widths = [max(len(line[index]) for line in [*lines, *body]) for index in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join([block.title, *(_line(cells, widths) for cells in [*lines, rule, *body])])


def _heading(title: str) -> list[str]:
    """The lines of a heading; a long word, which would widen a narrow column, is broken."""
    lines = title.split("\n")
    if len(lines) == 1 and len(title) > WORD and " " not in title:
        return [f"{title[: WORD - 1]}-", title[WORD - 1 :]]
    return lines


def _line(cells: list[str], widths: list[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([first, *rest]).rstrip()


def _text(entry: Entry) -> str:
    compact = entry.text.replace(" ± ", "±").replace(", ", ",").replace(" (n=", "(n=")
    return compact + (f" [{entry.marks}]" if entry.marks else "")
