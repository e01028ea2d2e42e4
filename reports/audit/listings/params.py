"""The audit of parameters: a table a part of the paper's tables, our count beside each printed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

from reports.audit.check import Check, Standing
from reports.audit.counting import (
    HEAD_COUNTED,
    HEAD_LEFT_OUT,
    MILLION,
    Head,
    Verdict,
    rounds_to,
    shown,
)
from reports.audit.layout import Column, Listing, Notes, Section
from reports.audit.params import Finding
from reports.page import HOLE

COLUMNS = (
    Column("Row", 18),
    Column("Printed\n(M)", 7, is_number=True),
    Column("Without\nhead", 11, is_number=True),
    Column("With\nhead", 11, is_number=True),
    Column("Arithmetic, without head", 38),
    Column("Verdict", 25),
)
SAME = "as above: a penalty has no parameters"
STANDING = {
    Verdict.MATCHES: Standing.FOLLOWS,
    Verdict.ONLY_IF: Standing.CONDITIONAL,
    Verdict.NOT_REPRODUCIBLE: Standing.DOES_NOT,
    Verdict.NOT_COUNTED: Standing.UNCHECKED,
}


def listing(findings: Sequence[Finding]) -> Listing:
    """Lay the findings out, in printed order."""
    grouped = groupby(findings, key=lambda found: (found.printed.table, found.printed.part))
    sections = [_section(f"Table {table}: {part}", list(rows)) for (table, part), rows in grouped]
    return Listing(
        title="Trainable parameters: the paper's counts and ours",
        sections=tuple(sections),
        closing=_closing(findings),
        checks=tuple(map(_check, findings)),
    )


def _section(title: str, rows: Sequence[Finding]) -> Section:
    notes = Notes()
    cells = tuple(_cells(row, notes) for row in rows)
    return Section(title, COLUMNS, cells, (*_heads(rows), *notes.lines))


def _cells(found: Finding, notes: Notes) -> tuple[str, ...]:
    """The cells of a row; what is too long for one becomes a note."""
    count, counting = found.count, found.counting
    setting = f"  ({counting.setting})" if counting.setting else ""
    verdict = found.verdict.value + found.words
    if len(verdict) > COLUMNS[-1].width:
        verdict = f"{found.verdict.value} {notes.mark(verdict)}"
    return (
        found.printed.label,
        str(found.printed.params_m),
        HOLE if count is None else shown(count.adapter),
        HOLE if count is None else shown(count.total),
        SAME if found.is_added else counting.formula + setting,
        verdict,
    )


def _heads(rows: Sequence[Finding]) -> list[str]:
    heads: dict[Head, list[str]] = {}
    for found in rows:
        if not found.is_added:
            heads.setdefault(found.head, []).append(found.printed.label)
    usual = max(heads, key=lambda head: len(heads[head]))
    lines = []
    for head, labels in heads.items():
        rows_of = "Head" if head == usual else f"Head of {', '.join(labels)}"
        lines.append(f"{rows_of}: {head.words}, {head.formula} = {shown(head.value)}.")
    return lines


def _closing(findings: Sequence[Finding]) -> str:
    """How many rows have which verdict, penalties apart."""
    own = [found for found in findings if not found.is_added]
    by_verdict = Counter(found.verdict for found in own)
    counts = ", ".join(f"{by_verdict[one]} {one.value}" for one in Verdict if by_verdict[one])
    text = f"{len(own)} rows without a penalty: {counts}."
    heads = Counter(found.words for found in own if found.verdict is Verdict.MATCHES)
    if (counted := heads[HEAD_COUNTED]) and (left_out := heads[HEAD_LEFT_OUT]):
        text += f" Of those that match, Table 1 counts the head in {counted} and leaves it out in {left_out}."
    return text


def _check(found: Finding) -> Check:
    """The count as a check: with the head where only so it is the printed one."""
    printed, count, counting, head = found.printed, found.count, found.counting, found.head
    recomputed, source = "", counting.formula
    sizes: tuple[str, ...] = ("", "", "")
    if count is not None:
        sizes = tuple(map(_in_full, (count.adapter, count.head, count.total)))
        size = count.adapter
        if rounds_to(count.total, printed.params_m) and not rounds_to(size, printed.params_m):
            size, source = count.total, f"{counting.formula} + {head.formula}"
        recomputed = f"{float(size / MILLION):.6f}"
    return Check(
        audit="params",
        table=f"table{printed.table}",
        part=printed.part,
        row=printed.method,
        what="params_m",
        printed=str(printed.params_m),
        recomputed=recomputed,
        source=source,
        verdict=found.verdict.value,
        reason=found.words.lstrip(" ,:"),
        standing=STANDING[found.verdict],
        details={
            "backbone": printed.backbone,
            "label": printed.label,
            **dict(zip(("without_head", "head", "with_head"), sizes, strict=True)),
            "formula": counting.formula,
            "setting": counting.setting or "",
            "head_is": head.words,
            "head_formula": head.formula,
        },
    )


def _in_full(count: Fraction) -> str:
    return str(count) if count.denominator == 1 else f"{float(count):.2f}"
