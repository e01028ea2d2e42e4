"""The audit of Table 6's FLOPs: each printed number, what else would have been printed, what is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from reports.audit.arithmetic import evaluate
from reports.audit.check import Check, Standing, row_of_table6
from reports.audit.counting import Verdict, shown
from reports.audit.deltas import RANKS
from reports.audit.flops import (
    COUNTINGS,
    FULL,
    NEEDS,
    READINGS,
    Finding,
    Reading,
    number_of_maps,
    one_way_prints_all,
    prints,
    tera,
)
from reports.audit.layout import Column, Listing, Notes, Section

PRINTED = (
    Column("Row", 16),
    Column("Printed\n(T)", 7, is_number=True),
    Column("Counted\n(T)", 7, is_number=True),
    Column("Multiply-adds of the forward pass, batch of 32", 51),
    Column("Verdict", 27),
)
READ = (
    Column("Row", 16),
    Column("If it were", 34),
    Column("(T)", 6, is_number=True),
    Column("fits", 6),
    Column("Full and", 50),
)
NEEDED = (
    Column("R_l in closed form", 20),
    Column("Arithmetic", 20),
    Column("multiply-adds", 13, is_number=True),
    Column("of the forward pass", 19, is_number=True),
    Column("of the maps", 12, is_number=True),
)
BLOCKS = 12
WORDS = {
    Verdict.MATCHES: "match",
    Verdict.ONLY_IF: "match under the conditions noted, which the paper does not state",
    Verdict.NOT_REPRODUCIBLE: "cannot be had",
}
STANDING = {
    Verdict.MATCHES: Standing.FOLLOWS,
    Verdict.ONLY_IF: Standing.CONDITIONAL,
    Verdict.NOT_REPRODUCIBLE: Standing.DOES_NOT,
}


def listing(findings: Sequence[Finding]) -> Listing:
    """Lay the findings out, in printed order."""
    notes = Notes()
    printed = tuple(_cells(found, notes) for found in findings)
    by_row = {found.method: found for found in findings}
    return Listing(
        title="Table 6's FLOPs: printed, and by arithmetic",
        sections=(
            Section("Table 6: ViT-B/16, 32 images of 197 tokens", PRINTED, printed, notes.lines),
            _readings(by_row),
            _needs(),
        ),
        closing=_closing(findings),
        checks=tuple(map(_check, findings)),
    )


def _cells(found: Finding, notes: Notes) -> tuple[str, ...]:
    base = f"{_label(found.counting.base)} + " if found.counting.base else ""
    marks = " ".join(notes.mark(condition) for condition in found.conditions)
    return (
        found.label,
        str(found.printed),
        tera(found.value),
        base + found.counting.added,
        f"{found.verdict.value} {marks}".rstrip(),
    )


def _label(row: str) -> str:
    return {"full": "Full", "lora-r2": "LoRA", "dtl": "DTL"}[row]


def _readings(found: dict[str, Finding]) -> Section:
    return Section(
        "What other settings and ways to make the penalty would print",
        READ,
        tuple(_reading(one, found[one.row]) for one in READINGS),
        tuple(_maps(found[row]) for row in ("lora-r2+linear", "dtl+linear")),
    )


def _reading(reading: Reading, found: Finding) -> tuple[str, ...]:
    does = prints(f"{FULL} + {reading.added}", found.printed)
    base = _label(found.counting.base or "full")
    symbol = found.label.removeprefix("+ ").partition(" (")[0]
    return (
        f"{base} + {symbol}, {found.printed}",
        reading.words,
        tera(reading.value),
        "yes" if does else "no",
        reading.added,
    )


def _maps(found: Finding) -> str:
    """What a printed number says of the matrices, if all blocks have the same ones at a rank of the paper."""
    base = found.counting.base or "full"
    fits = number_of_maps(base, found.printed)
    if not fits:
        return f"No number of maps of 768 x 768 over all tokens gives {_label(base)}'s {found.printed}."
    ways = [
        f"{maps // (BLOCKS * rank)} of rank {rank}"
        for maps in fits
        for rank in RANKS
        if maps % (BLOCKS * rank) == 0
    ]
    return (
        f"{_label(base)}'s {found.printed} takes {fits[0]} to {fits[-1]} maps of 768 x 768 over all tokens. "
        f"With the same matrices in each of {BLOCKS} blocks, rank 2, 4 or 8: {' or '.join(ways) or 'none'}."
    )


def _needs() -> Section:
    rows = []
    for need in NEEDS:
        closed = evaluate(need.closed)
        rows.append(
            (
                need.words,
                need.closed,
                shown(closed),
                _percent(closed / evaluate(FULL)),
                _percent(closed / evaluate(need.with_maps)),
            )
        )
    note = (
        "The activations z = A x are there after the forward pass; what is left is z^T z of each matrix: "
        "N r^2 for N = 6,304 tokens."
    )
    return Section("What the penalty needs instead", NEEDED, tuple(rows), (note,))


def _closing(findings: Sequence[Finding]) -> str:
    by_verdict = Counter(found.verdict for found in findings)
    counts = ", ".join(f"{by_verdict[one]} {WORDS[one]}" for one in WORDS if by_verdict[one])
    text = f"{len(findings)} printed FLOPs: {counts}."
    if not one_way_prints_all():
        more = tera(evaluate(COUNTINGS["lora-r2"].added), digits=4)
        printed = {found.method: found.printed for found in findings}
        text += (
            f" No one way of counting prints both {printed['full']} for Full and {printed['lora-r2']} for "
            f"LoRA, whose forward pass is Full's and {more} T more: they were counted in two ways."
        )
    return text


def _percent(share: Fraction) -> str:
    return f"{float(100 * share):.5f} %"


def _check(found: Finding) -> Check:
    return Check(
        audit="flops",
        table="table6",
        row=row_of_table6(found.method),
        what="flops_t",
        printed=str(found.printed),
        recomputed=tera(found.value, digits=6),
        source=found.counting.formula,
        verdict=found.verdict.value,
        reason="; ".join(found.conditions),
        standing=STANDING[found.verdict],
    )
