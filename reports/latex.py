"""A page as a LaTeX document with booktabs: it compiles, and each table can be copied out."""

from __future__ import annotations

import re
from itertools import groupby

from reports.page import Block, Column, Entry, Page

PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[landscape,margin=1.5cm]{geometry}
\usepackage{booktabs}
\usepackage{caption}
\usepackage{graphicx}
\setlength{\parindent}{0pt}
\begin{document}"""

ESCAPES = {
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

SPREAD = re.compile(r" ± [\d.]+| \(n=\d+\)")


def render(page: Page) -> str:
    """Lay out a page as LaTeX."""
    parts = [PREAMBLE, f"\\section*{{{escape(page.title)}}}"]
    if page.warning:
        parts.append(f"\\textbf{{{escape(page.warning)}}}\n")
    parts += [f"{escape(line)}\n" for line in page.legend]
    parts += [_table(block, page) for block in page.ours]
    parts += [f"$^{{{letter}}}$ {escape(text)}\n" for letter, text in page.notes]
    parts += [_table(block, page) for block in page.paper]
    parts.append(r"\end{document}")
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    # What is neither ASCII nor in the list could stop the compiler; only a note can hold it.
    return "".join(ESCAPES.get(c, c if c.isascii() else "?") for c in text)


def _table(block: Block, page: Page) -> str:
    # A table is copied out alone, so its caption repeats what it must not be taken for.
    caption = ". ".join(filter(None, [f"{page.title}: {block.title}", page.warning]))
    lines = [
        r"\begin{table}[!htp]",
        r"\centering",
        # Unnumbered: "Table 1" would be read as the paper's.
        f"\\caption*{{{escape(caption)}}}",
        # Shrinks what is wider than the page, and never blows up what is narrower.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        f"\\begin{{tabular}}{{l{_alignment(block)}}}",
        r"\toprule",
        *(_group_headings(block) if block.is_grouped else ()),
        " & ".join(
            [block.corner, *(_heading(column, block.is_grouped) for column in block.columns)]
        )
        + r" \\",
        r"\midrule",
        *_body(block),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _body(block: Block) -> list[str]:
    lines, sections = [], dict(block.sections)
    for index, (name, cells) in enumerate(block.rows):
        if index in sections:
            space = [r"\addlinespace"] if index else []
            heading = f"\\textit{{{escape(sections[index])}}}"
            lines += [*space, f"\\multicolumn{{{1 + len(cells)}}}{{l}}{{{heading}}} \\\\"]
        lines.append(" & ".join([escape(name), *map(_text, cells)]) + r" \\")
    return lines


def _alignment(block: Block) -> str:
    runs = [len(list(run)) for _, run in groupby(block.columns, key=lambda column: column.group)]
    return r"@{\quad}".join("r" * length for length in runs)


def _group_headings(block: Block) -> list[str]:
    cells, rules, start = [""], [], 2
    for group, run in groupby(block.columns, key=lambda column: column.group):
        length = len(list(run))
        cells.append(f"\\multicolumn{{{length}}}{{c}}{{{escape(group or '')}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + length - 1}}}")
        start += length
    return [" & ".join(cells) + r" \\", "".join(rules)]


def _heading(column: Column, is_rotated: bool) -> str:
    title = escape(column.title.replace("\n", " "))
    return f"\\rotatebox{{90}}{{{title}}}" if is_rotated else title


def _text(entry: Entry) -> str:
    # Spread and n as a subscript: a row of 19 tasks has to fit a page.
    value, subscript = SPREAD.sub("", entry.text), "".join(SPREAD.findall(entry.text))
    # A hyphen before a digit would be set as one; a minus is meant.
    text = re.sub(r"-(?=\d)", "$-$", escape(value))
    if subscript:
        text += "$_{" + subscript.strip().replace("±", r"\pm").replace(" (", r"\,(") + "}$"
    return text + (f"$^{{{entry.marks}}}$" if entry.marks else "")
