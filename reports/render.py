"""Pages as Markdown, LaTeX and text for the terminal; Jinja's environment for these and the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from tabulate import tabulate

from reports.page import Block, Entry, Page

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 138
"""Columns of a terminal."""
WORD = 8
MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_|<>"})
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": "$-$",
    "Δ": r"$\Delta$",
    "≤": r"$\le$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "²": r"$^2$",
    "λ": r"$\lambda$",
}


@cache
def templates(kind: Literal["html", "tex", "md"]) -> Environment:
    """The templates: of HTML and Markdown with Jinja's own marks, of LaTeX with ``<< >>`` and ``<% %>``."""
    # Late: a table in the terminal needs none.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    common: dict[str, Any] = {
        "loader": FileSystemLoader(TEMPLATES),
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    if kind != "tex":
        return Environment(**common, autoescape=kind == "html")
    latex = Environment(
        **common,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    latex.filters["tex"] = tex
    return latex


# Markdown


def markdown(page: Page) -> str:
    """Lay out a page as Markdown; a block wider than a screen is split by task group."""
    parts = [f"# {md(page.title)}"]
    if page.warning:
        parts.append(f"> **{md(page.warning)}**")
    parts.append("\n".join(f"- {md(line)}" for line in page.legend))
    parts += [_section(part) for block in page.ours for part in block.split_by_group()]
    if page.notes:
        lines = [f"- <sup>{letter}</sup> {md(text)}" for letter, text in page.notes]
        parts += ["## Notes", "\n".join(lines)]
    parts += [_section(part) for block in page.paper for part in block.split_by_group()]
    return "\n\n".join(parts) + "\n"


def md(text: str) -> str:
    """Take the meaning from the characters that Markdown gives one."""
    escaped = text.translate(MARKDOWN)
    return escaped.replace("](", "]\\(").replace("][", "]\\[")  # the two that make a link


def markdown_table(block: Block) -> str:
    """Lay out a block as a table alone."""
    rows = []
    for row in block.rows:
        if row.section:
            rows.append([f"*{md(row.section)}*", *("" for _ in row.cells)])
        rows.append([md(row.name), *(_markdown_cell(cell) for cell in row.cells)])
    headings = [md(column.title.replace("\n", " ")) for column in block.columns]
    frame = pd.DataFrame(rows, columns=[md(block.corner), *headings])
    aligned = ["left"] + ["left" if block.is_text else "right"] * len(headings)
    text: str = frame.to_markdown(index=False, disable_numparse=True, colalign=aligned)
    return text


def _section(block: Block) -> str:
    return f"## {md(block.title)}\n\n{markdown_table(block)}"


def _markdown_cell(entry: Entry) -> str:
    marks = f"<sup>{entry.marks}</sup>" if entry.marks else ""
    return md(entry.whole).replace("\n", "<br>") + marks


# LaTeX


def latex(page: Page) -> str:
    """Lay out a page as a LaTeX document with booktabs: it compiles, and each table can be copied out."""
    ours, paper = ([(block, tabular(block)) for block in side] for side in (page.ours, page.paper))
    template = templates("tex").get_template("table.tex.j2")
    return template.render(page=page, tables=[*ours, (None, ""), *paper])


def tex(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    # What is neither ASCII nor in the list could stop the compiler; only a note can hold it.
    return "".join(LATEX.get(c, c if c.isascii() else "?") for c in text)


def tabular(block: Block) -> str:
    """A block as a booktabs ``tabular``; groups of columns have headings of their own."""
    rows = []
    for row in block.rows:
        if row.section:
            rows.append([f"\\textit{{{tex(row.section)}}}", *("" for _ in row.cells)])
        rows.append([tex(row.name), *map(_latex_cell, row.cells)])
    titles = [tex(column.title.replace("\n", " ")) for column in block.columns]
    heads: Any = [tex(block.corner), *titles]
    if block.is_grouped:
        turned = [f"\\rotatebox{{90}}{{{title}}}" for title in titles]
        groups = ["", *(tex(column.group or "") for column in block.columns)]
        heads = pd.MultiIndex.from_arrays([groups, [tex(block.corner), *turned]])
    frame = pd.DataFrame(rows, columns=heads)
    text: str = frame.style.hide(axis="index").to_latex(
        hrules=True, column_format="l" + "r" * len(titles), multicol_align="c"
    )
    return text.strip()


def _latex_cell(entry: Entry) -> str:
    # A hyphen before a digit would be set as one; a minus is meant.
    text = re.sub(r"-(?=\d)", "$-$", tex(entry.text))
    if entry.small:
        # Spread and n as a subscript: a row of 19 tasks has to fit a page.
        text += "$_{" + entry.small.replace("±", r"\pm").replace(" (", r"\,(") + "}$"
    return text + (f"$^{{{entry.marks}}}$" if entry.marks else "")


# Terminal


def terminal(page: Page, width: int = WIDTH) -> str:
    """Lay out a page for a terminal of so many columns; of a wide block, rows and columns change places."""
    parts = [fill(page.title, width)]
    if page.warning:
        parts.append(fill(f"!! {page.warning}", width, subsequent_indent="   "))
    for block in page.ours:
        kept = [index for index, column in enumerate(block.columns) if column.in_terminal]
        shown = block.transposed() if block.is_grouped else block.with_columns(kept)
        parts += [_grid(chunk) for chunk in _chunks(shown, width)]
    parts.append("\n".join(fill(line, width, subsequent_indent="  ") for line in page.legend))
    if page.notes:
        notes = (f"[{letter}] {text}" for letter, text in page.notes)
        parts.append("\n".join(fill(note, width, subsequent_indent="    ") for note in notes))
    return "\n\n".join(parts)


def _chunks(block: Block, width: int) -> Iterator[Block]:
    """The block cut into pieces of columns that fit."""
    label = max((len(row.name) for row in block.rows), default=0)
    start, used = 0, label
    for index, column in enumerate(block.columns):
        cells = (len(_compact(row.cells[index])) for row in block.rows)
        # tabulate leaves two columns of room beside a heading.
        heading = 2 + max(map(len, _broken(column.title).split("\n")))
        needed = 2 + max(heading, *cells)
        if used + needed > width and index > start:
            yield block.with_columns(range(start, index))
            start, used = index, label
        used += needed
    if start < len(block.columns):
        yield block.with_columns(range(start, len(block.columns)))


def _grid(block: Block) -> str:
    rows = [[row.name, *map(_compact, row.cells)] for row in block.rows]
    heads = [block.corner, *(_broken(column.title) for column in block.columns)]
    aligned = ["left"] + ["right"] * len(block.columns) if rows else None
    text: str = tabulate(
        rows, headers=heads, tablefmt="simple", disable_numparse=True, colalign=aligned
    )
    lines = [line.rstrip() for line in text.split("\n")]
    above = len(lines) - len(rows)
    for index, row in reversed(list(enumerate(block.rows))):
        if row.section:
            lines.insert(above + index, f"- {row.section}")
    return "\n".join([block.title, *lines])


def _broken(title: str) -> str:
    """A heading in lines; a long word, which would widen a narrow column, is broken."""
    if "\n" not in title and len(title) > WORD and " " not in title:
        return f"{title[: WORD - 1]}-\n{title[WORD - 1 :]}"
    return title


def _compact(entry: Entry) -> str:
    text = entry.whole.replace(" ± ", "±").replace(", ", ",").replace(" (n=", "(n=")
    return text + (f" [{entry.marks}]" if entry.marks else "")
