"""A page for the terminal: a wide block has its rows and columns change places, so that it fits."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from reports.page import Block, Column, Entry, Page, transposed, with_columns

WIDTH = 138
WORD = 8


def render(page: Page, width: int = WIDTH) -> str:
    """Lay out a page for a terminal of so many columns."""
    parts = [fill(page.title, width)]
    if page.warning:
        parts.append(fill(f"!! {page.warning}", width, subsequent_indent="   "))
    for block in page.ours:
        shown = transposed(block) if block.is_grouped else _narrowed(block)
        parts += [_grid(chunk) for chunk in _chunks(shown, width)]
    parts.append("\n".join(fill(line, width, subsequent_indent="  ") for line in page.legend))
    if page.notes:
        notes = (f"[{letter}] {text}" for letter, text in page.notes)
        parts.append("\n".join(fill(note, width, subsequent_indent="    ") for note in notes))
    return "\n\n".join(parts)


def _narrowed(block: Block) -> Block:
    """The block without the columns that only the files have."""
    return with_columns(block, [i for i, column in enumerate(block.columns) if column.in_terminal])


def _chunks(block: Block, width: int) -> Iterator[Block]:
    """The block cut into pieces of columns that fit."""
    label = max(len(name) for name, _ in block.rows)
    start, used = 0, label
    for index, column in enumerate(block.columns):
        needed = 2 + _column_width(block, index, column)
        if used + needed > width and index > start:
            yield with_columns(block, range(start, index))
            start, used = index, label
        used += needed
    if start < len(block.columns):
        yield with_columns(block, range(start, len(block.columns)))


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
    sections = dict(block.sections)
    text = [block.title, *(_line(cells, widths) for cells in [*lines, rule])]
    for index, cells in enumerate(body):
        text += [f"- {sections[index]}"] if index in sections else []
        text.append(_line(cells, widths))
    return "\n".join(text)


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
