"""The audit of parameters as text: a table a part for the terminal or Markdown, or one CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby
from string import ascii_lowercase
from textwrap import fill

from tabulate import tabulate

from reports.audit.claims import HEAD_COUNTED, HEAD_LEFT_OUT, Head, Verdict, shown
from reports.audit.params import Finding
from reports.markdown import escape
from reports.page import HOLE
from reports.terminal import WIDTH

HEADINGS = (
    "Row",
    "Printed\n(M)",
    "Without\nhead",
    "With\nhead",
    "Arithmetic, without head",
    "Verdict",
)
WIDTHS = (18, 7, 11, 11, 50, 25)
ALIGNMENT = ("left", "right", "right", "right", "left", "left")
SAME = "as above: a penalty has no parameters"


def terminal(findings: Sequence[Finding]) -> str:
    """Lay out as tables no wider than ``WIDTH`` columns, with notes below each."""
    parts = []
    for title, rows in _parts(findings):
        notes: dict[str, str] = {}
        table = tabulate(
            [list(map(_wrapped, _cells(row, notes), WIDTHS)) for row in rows],
            headers=HEADINGS,
            tablefmt="simple",
            disable_numparse=True,
            colalign=ALIGNMENT,
        )
        parts += [title, table, "\n".join(_filled(line) for line in _legend(rows, notes))]
    return "\n\n".join([*parts, _filled(_summary(findings))])


def markdown(findings: Sequence[Finding]) -> str:
    """Lay out as Markdown tables, with notes below each."""
    parts = ["# Trainable parameters: the paper's counts and ours"]
    for title, rows in _parts(findings):
        notes: dict[str, str] = {}
        table = tabulate(
            [list(map(escape, _cells(row, notes))) for row in rows],
            headers=[heading.replace("\n", " ") for heading in HEADINGS],
            tablefmt="pipe",
            disable_numparse=True,
            colalign=ALIGNMENT,
        )
        legend = "\n".join(f"- {escape(line)}" for line in _legend(rows, notes))
        parts += [f"## {escape(title)}", table, legend]
    return "\n\n".join([*parts, escape(_summary(findings))])


def as_csv(findings: Sequence[Finding]) -> str:
    """Lay out as CSV: all numbers in full, a mean with two digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        "table part backbone method label printed_millions without_head head with_head formula "
        "setting head_is head_formula verdict explanation".split()
    )
    for found in findings:
        printed, count = found.printed, found.count
        sizes: tuple[str, ...] = ("", "", "")
        if count is not None:
            sizes = tuple(map(_in_full, (count.adapter, count.head, count.total)))
        writer.writerow(
            [
                *(printed.table, printed.part, printed.backbone, printed.method, printed.label),
                *(printed.params_m, *sizes, found.claim.formula, found.claim.setting or ""),
                *(found.head.words, found.head.formula),
                *(found.verdict.value, found.words.lstrip(" ,:")),
            ]
        )
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Sequence[Finding]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": as_csv,
}


def _parts(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    grouped = groupby(findings, key=lambda found: (found.printed.table, found.printed.part))
    return [(f"Table {table}: {part}", list(rows)) for (table, part), rows in grouped]


def _cells(found: Finding, notes: dict[str, str]) -> list[str]:
    """The cells of a row; what is too long for one becomes a note."""
    count, claim = found.count, found.claim
    setting = f"  ({claim.setting})" if claim.setting else ""
    verdict = found.verdict.value + found.words
    if len(verdict) > WIDTHS[-1]:
        letter = notes.setdefault(verdict, ascii_lowercase[len(notes)])
        verdict = f"{found.verdict.value} [{letter}]"
    return [
        found.printed.label,
        str(found.printed.params_m),
        HOLE if count is None else shown(count.adapter),
        HOLE if count is None else shown(count.total),
        SAME if found.is_added else claim.formula + setting,
        verdict,
    ]


def _legend(rows: Sequence[Finding], notes: dict[str, str]) -> list[str]:
    """The heads of a part, and its notes."""
    heads: dict[Head, list[str]] = {}
    for found in rows:
        if not found.is_added:
            heads.setdefault(found.head, []).append(found.printed.label)
    usual = max(heads, key=lambda head: len(heads[head]))
    lines = []
    for head, labels in heads.items():
        rows_of = "Head" if head == usual else f"Head of {', '.join(labels)}"
        lines.append(f"{rows_of}: {head.words}, {head.formula} = {shown(head.value)}.")
    return lines + [f"[{letter}] {text[0].upper()}{text[1:]}." for text, letter in notes.items()]


def _in_full(count: Fraction) -> str:
    return str(count) if count.denominator == 1 else f"{float(count):.2f}"


def _wrapped(cell: str, width: int) -> str:
    return fill(cell, width, break_on_hyphens=False)


def _filled(line: str) -> str:
    return fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _summary(findings: Sequence[Finding]) -> str:
    """How many rows have which verdict, penalties apart."""
    own = [found for found in findings if not found.is_added]
    by_verdict = Counter(found.verdict for found in own)
    counts = ", ".join(f"{by_verdict[one]} {one.value}" for one in Verdict if by_verdict[one])
    text = f"{len(own)} rows without a penalty: {counts}."
    heads = Counter(found.words for found in own if found.verdict is Verdict.MATCHES)
    if (counted := heads[HEAD_COUNTED]) and (left_out := heads[HEAD_LEFT_OUT]):
        text += f" Of those that match, Table 1 counts the head in {counted} and leaves it out in {left_out}."
    return text
