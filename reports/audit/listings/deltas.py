"""The audit of numbers printed twice: what was held against what, and what there is to say about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from reports.audit.check import Check, Standing
from reports.audit.comparison import RULE, Comparison, Delta, Verdict, titled
from reports.audit.deltas import PENALTIES, RANKS, gains_of_rank
from reports.audit.layout import Column, Listing, Notes, Section

COMPARED = (
    Column("Printed, and what it is held against", 66),
    Column("numbers", 7, is_number=True),
    Column("agree", 6, is_number=True),
    Column("within\nrounding", 8, is_number=True),
    Column("repeat", 6, is_number=True),
    Column("differ", 6, is_number=True),
)
NUMBERS = (
    Column("printed in", 11),
    Column("row", 21),
    Column("column", 15),
    Column("printed", 7, is_number=True),
    Column("recomputed", 10, is_number=True),
    Column("from", 28),
    Column("verdict", 14),
)
BY_RANK = (
    Column("LoRA", 18),
    Column("no penalty", 10, is_number=True),
    *(Column(f"+ {symbol}", 6, is_number=True) for symbol in PENALTIES.values()),
    Column("held against Table 6", 50),
)
COLUMNS = {
    "params_m": "param (M)",
    "average": "Average",
    "all_set_average": "All Set Average",
    "accuracy": "Acc (%)",
    "time": "Time (%)",
    "memory_gb": "Mem (GB)",
    "natural": "Nat.",
    "specialized": "Spe.",
    "structured": "Str.",
}
"""Printed names of the columns that are not tasks."""


def listing(comparisons: Sequence[Comparison], *, with_all: bool) -> Listing:
    """Lay out what does not agree or needs a word; ``with_all``: every number, a table a comparison."""
    deltas = [delta for comparison in comparisons for delta in comparison.deltas]
    wrong = [delta for delta in deltas if not delta.verdict.does_agree]
    told = [
        delta
        for delta in deltas
        if delta.verdict is Verdict.WITHIN_ROUNDING or (delta.reason and delta not in wrong)
    ]
    overview = Section(
        "What was held against what",
        COMPARED,
        tuple(map(_counted, comparisons)),
        (RULE,),
    )
    if with_all:
        details = [_numbers(comparison.title, comparison.deltas) for comparison in comparisons]
    else:
        details = [
            _numbers("Numbers that do not agree", wrong),
            _numbers("Numbers that agree, with something to say about them", told),
        ]
    return Listing(
        title="Numbers that the paper prints in two places",
        sections=(overview, *details, _ranks()),
        closing=f"{len(wrong)} of {len(deltas)} numbers do not agree with what is printed elsewhere",
        checks=tuple(map(_check, deltas)),
    )


def _counted(comparison: Comparison) -> tuple[str, ...]:
    by_verdict = Counter(delta.verdict for delta in comparison.deltas)
    counts = (by_verdict[verdict] for verdict in Verdict)
    return (
        comparison.title,
        str(len(comparison.deltas)),
        *(str(count) if count else "" for count in counts),
    )


def _numbers(title: str, deltas: Iterable[Delta]) -> Section:
    notes = Notes()
    return Section(
        title, NUMBERS, tuple(_cells(delta, notes) for delta in deltas), tuple(notes.lines)
    )


def _cells(delta: Delta, notes: Notes) -> tuple[str, ...]:
    place = delta.place
    verdict = "repeats" if delta.verdict is Verdict.REPEATS else delta.verdict.value
    return (
        titled(place.table) if place.table.startswith("table") else place.table,
        place.row,
        COLUMNS.get(place.what, place.what),
        delta.printed,
        delta.recomputed,
        delta.source,
        f"{verdict} {notes.mark(delta.reason)}" if delta.reason else verdict,
    )


def _ranks() -> Section:
    """Table 6 does not say the rank of its LoRA; Table 5 has three to choose from."""
    by_rank = {rank: gains_of_rank(rank) for rank in RANKS}
    printed = next(iter(by_rank.values()))
    rows = [("Table 6", *(delta.printed for delta in printed), "")]
    for rank, deltas in by_rank.items():
        by_verdict = Counter(delta.verdict for delta in deltas)
        words = ", ".join(
            f"{by_verdict[verdict]} {words}"
            for verdict, words in WORDS.items()
            if by_verdict[verdict]
        )
        rows.append((f"Table 5, r = {rank}", *(delta.recomputed for delta in deltas), words))
    return Section("The rank of Table 6's LoRA, which it does not say", BY_RANK, tuple(rows))


WORDS = {
    Verdict.AGREES: "agree",
    Verdict.WITHIN_ROUNDING: "agree within rounding",
    Verdict.DIFFERS: "differ",
}


def _check(delta: Delta) -> Check:
    place = delta.place
    return Check(
        audit="deltas",
        table=place.table,
        part=place.part,
        row=place.row,
        what=place.what,
        printed=delta.printed,
        recomputed=delta.recomputed,
        source=delta.source,
        verdict=delta.verdict.value,
        reason=delta.reason,
        standing=Standing.FOLLOWS if delta.verdict.does_agree else Standing.DOES_NOT,
    )
