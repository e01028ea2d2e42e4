"""A page as Markdown: a block wider than a screen is split by task group."""

from __future__ import annotations

from reports.page import Block, Entry, Page, split_by_group

SPECIAL = "\\`*_|<>"


def render(page: Page) -> str:
    """Lay out a page as Markdown."""
    parts = [f"# {escape(page.title)}"]
    if page.warning:
        parts.append(f"> **{escape(page.warning)}**")
    parts.append("\n".join(f"- {escape(line)}" for line in page.legend))
    parts += [_section(part) for block in page.ours for part in split_by_group(block)]
    if page.notes:
        lines = [f"- <sup>{letter}</sup> {escape(text)}" for letter, text in page.notes]
        parts += ["## Notes", "\n".join(lines)]
    parts += [_section(part) for block in page.paper for part in split_by_group(block)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Take the meaning from the characters that Markdown gives one."""
    return "".join(f"\\{character}" if character in SPECIAL else character for character in text)


def _section(block: Block) -> str:
    return f"## {escape(block.title)}\n\n{table(block)}"


def table(block: Block) -> str:
    """Lay out a block as a table alone."""
    header = [block.corner, *(column.title.replace("\n", " ") for column in block.columns)]
    sections = dict(block.sections)
    body = []
    for index, (name, entries) in enumerate(block.rows):
        if index in sections:
            body.append([f"*{escape(sections[index])}*", *("" for _ in entries)])
        body.append([escape(name), *map(_text, entries)])
    cells = [list(map(escape, header)), *body]
    widths = [max(3, *(len(line[index]) for line in cells)) for index in range(len(header))]
    end = "-" if block.is_text else ":"
    rule = ["-" * widths[0], *("-" * (width - 1) + end for width in widths[1:])]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in [cells[0], rule, *cells[1:]]
    ]
    return "\n".join(lines)


def _text(entry: Entry) -> str:
    return escape(entry.text).replace("\n", "<br>") + (
        f"<sup>{entry.marks}</sup>" if entry.marks else ""
    )
