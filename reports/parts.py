"""A table in parts, each on a backbone of its own, of which the paper printed means over groups alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports import blocks
from reports.notes import Notes
from reports.page import Block, Column, Entry, Page, with_columns
from reports.published.parts import Part, load_parts
from reports.tables import TableData

PAPER_COLUMNS = 4
"""So many columns of the block of means are the paper's; here these have a block of their own."""


def page(data: TableData) -> Page:
    """Format one part."""
    notes = Notes()
    means = blocks.means_block(data)
    ours = with_columns(means, range(len(means.columns) - PAPER_COLUMNS))
    by_task = blocks.by_task_block(data, notes)
    network = data.grid.backbone
    part = paper_part(data)
    return Page(
        title=blocks.heading(data),
        warning=blocks.warning(data),
        legend=(*blocks.legend(data), *_remarks(part)),
        ours=(
            replace(ours, title=f"Means on {network}"),
            replace(by_task, title=f"By task on {network}"),
        ),
        paper=(printed(part),),
        notes=tuple(notes.lines()),
    )


def joined(pages: Sequence[Page]) -> Page:
    """One page from those of the parts: what they share once, their blocks one after the other."""
    first = pages[0]
    letters = [letter for page in pages for letter, _ in page.notes]
    if len(set(letters)) < len(letters):
        pages = [_relettered(page, index) for index, page in enumerate(pages, start=1)]
    return Page(
        title=first.title.rpartition(" on ")[0],
        warning=first.warning,
        legend=tuple(dict.fromkeys(line for page in pages for line in page.legend)),
        ours=tuple(block for page in pages for block in page.ours),
        paper=tuple(block for page in pages for block in page.paper),
        notes=tuple(note for page in pages for note in page.notes),
    )


def _relettered(page: Page, index: int) -> Page:
    """The page with footnotes such as ``2a`` for ``a``."""

    def marked(entry: Entry) -> Entry:
        marks = entry.marks.split(",") if entry.marks else []
        return Entry(entry.text, ",".join(f"{index}{mark}" for mark in marks))

    def of(block: Block) -> Block:
        rows = tuple((name, tuple(map(marked, cells))) for name, cells in block.rows)
        return replace(block, rows=rows)

    return replace(
        page,
        ours=tuple(map(of, page.ours)),
        notes=tuple((f"{index}{letter}", text) for letter, text in page.notes),
    )


def paper_part(data: TableData) -> Part:
    """The paper's part: that on the backbone in whose place ours stands."""
    published = data.grid.benchmark.scales["paper"].backbones[data.table.backbone]
    parts = load_parts(data.table.name).parts
    return next(part for part in parts if part.backbone == published)


def printed(part: Part) -> Block:
    """A part of the paper's table, every cell as it was typed."""
    rows = tuple(
        (row.method, tuple(Entry(row.cells[column]) for column in part.columns))
        for row in part.rows
    )
    return Block(
        title=f"The paper's {part.name}, as printed",
        corner="method",
        columns=tuple(Column(heading) for heading in part.columns.values()),
        rows=rows,
    )


def _remarks(part: Part) -> list[str]:
    return [
        f"The paper's row {row.method} of {part.name}: {row.remark}"
        for row in part.rows
        if row.remark
    ]
