"""Every printed count of trainable parameters beside ours: Tables 1, 2, 3 and 5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

from benchmarks.harness.errors import UsageError
from reports import published
from reports.audit import retrieval, vtab
from reports.audit.arithmetic import evaluate
from reports.audit.check import VIT, Check, Listing, Notes, Section, Standing
from reports.audit.counting import (
    HEAD_COUNTED,
    HEAD_LEFT_OUT,
    HEADS,
    MILLION,
    Count,
    Counting,
    Head,
    Verdict,
    judge,
    rounds_to,
    shown,
)
from reports.page import HOLE
from reports.published import PartRow, PublishedRow

TABLES = ("table1", "table2", "table3", "table5")
"""Those that print parameters."""

COUNTINGS: Mapping[str, Mapping[str, Counting]] = {
    "bert_base": retrieval.BERT,
    "clip_vit_b32": retrieval.CLIP,
    "vit_b16": vtab.VIT,
    "swin_b": vtab.SWIN,
    "convnext_b": vtab.CONVNEXT,
}
"""By backbone and method; a penalty has no parameters, so that its row is counted as its base."""

HEAD_IS_OPEN = ("bert_base", "clip_vit_b32")
"""Where the paper counts the head in some rows and not in others. On VTAB-1K nobody counts it."""

SAME = "as above: a penalty has no parameters"
LONGEST = 25
"""Characters of a verdict in its cell; a longer one is a note."""
STANDING = {
    Verdict.MATCHES: Standing.FOLLOWS,
    Verdict.ONLY_IF: Standing.CONDITIONAL,
    Verdict.NOT_REPRODUCIBLE: Standing.DOES_NOT,
    Verdict.NOT_COUNTED: Standing.UNCHECKED,
}


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A count as the paper prints it.

    Attributes:
        table: Name of the table.
        part: Heading of a part of it.
        backbone: Name of the network.
        method: Name of the method, with the suffix of its penalty.
        label: Printed name of the row.
        params_m: Millions, with the printed digits.
    """

    table: str
    part: str
    backbone: str
    method: str
    label: str
    params_m: Decimal

    @property
    def base(self) -> str:
        """The method without a penalty."""
        return self.method.partition("+")[0]

    @property
    def is_added(self) -> bool:
        """Whether the row adds a penalty to another one."""
        return self.method != self.base

    @property
    def counting(self) -> Counting:
        """How its count is made."""
        return COUNTINGS[self.backbone][self.base]

    @property
    def head(self) -> Head:
        """What is trained behind the network."""
        return HEADS[self.counting.head or self.backbone]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A printed count, ours (None where it could not be counted), and how they compare, in words."""

    printed: Printed
    count: Count | None
    verdict: Verdict
    words: str


def printed_counts() -> Iterator[Printed]:
    """The counts of all tables, in printed order."""
    for name in TABLES:
        parts: list[tuple[str, str, Sequence[PartRow | PublishedRow]]]
        if name in published.PARTED:
            of = published.load_parts(name).parts
            parts = [(part.name, part.backbone, part.rows) for part in of]
        else:
            parts = [(VIT, "vit_b16", published.load(name).rows)]
        for part, backbone, rows in parts:
            for row in rows:
                yield Printed(
                    table=name,
                    part=part,
                    backbone=backbone,
                    method=row.method,
                    label=row.label,
                    params_m=row.params_m,
                )


def audit() -> list[Finding]:
    """Build the networks without weights, count what each method trains, and compare.

    Raises:
        UsageError: A package that the networks need is not installed.
    """
    try:
        # Late: torch, timm and transformers take seconds to import.
        from reports.audit import networks

        return [
            _finding(printed, *networks.count(printed.backbone, printed.counting))
            for printed in printed_counts()
        ]
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the audit builds the networks, for which {error.name or error} is missing; "
            "install the suite: pip install -e '.[suite]'"
        ) from error


def _finding(printed: Printed, count: Count | None, reason: str) -> Finding:
    counting, head_is_open = printed.counting, printed.backbone in HEAD_IS_OPEN
    verdict, words = judge(counting, printed.params_m, count, head_is_open=head_is_open)
    if count is None and verdict is Verdict.NOT_COUNTED:
        words = f": {reason}"
    if count is not None and (value := evaluate(counting.formula)) != count.adapter:
        words += f". The arithmetic is wrong: it gives {shown(value)}, not {shown(count.adapter)}"
    return Finding(printed=printed, count=count, verdict=verdict, words=words)


def listing(findings: Sequence[Finding] | None = None) -> Listing:
    """A table a part of the paper's tables, our count beside each printed one."""
    findings = audit() if findings is None else findings
    parts = groupby(findings, key=lambda found: (found.printed.table, found.printed.part))
    own = [found for found in findings if not found.printed.is_added]
    by_verdict = Counter(found.verdict for found in own)
    counts = ", ".join(f"{by_verdict[one]} {one.value}" for one in Verdict if by_verdict[one])
    closing = f"{len(own)} rows without a penalty: {counts}."
    heads = Counter(found.words for found in own if found.verdict is Verdict.MATCHES)
    if (counted := heads[HEAD_COUNTED]) and (left_out := heads[HEAD_LEFT_OUT]):
        closing += f" Of those that match, Table 1 counts the head in {counted}"
        closing += f" and leaves it out in {left_out}."
    return Listing(
        title="Trainable parameters: the paper's counts and ours",
        sections=[
            _section(f"Table {table.removeprefix('table')}: {part}", list(rows))
            for (table, part), rows in parts
        ],
        closing=closing,
        checks=[_check(found) for found in findings],
    )


def _section(title: str, findings: Sequence[Finding]) -> Section:
    notes, right = Notes(), ("Printed (M)", "Without head", "With head")
    rows = [_cells(found, notes) for found in findings]
    return Section(
        title=title,
        headings=("Row", *right, "Arithmetic, without head", "Verdict"),
        right=right,
        rows=rows,
        notes=[*_heads([found.printed for found in findings]), *notes.lines],
    )


def _cells(found: Finding, notes: Notes) -> tuple[str, ...]:
    """The cells of a row; what is too long for one becomes a note."""
    printed, count, counting = found.printed, found.count, found.printed.counting
    setting = f"  ({counting.setting})" if counting.setting else ""
    verdict = found.verdict.value + found.words
    if len(verdict) > LONGEST:
        verdict = f"{found.verdict.value} {notes.mark(verdict)}"
    sizes = (HOLE, HOLE) if count is None else (shown(count.adapter), shown(count.total))
    arithmetic = SAME if printed.is_added else counting.formula + setting
    return (printed.label, str(printed.params_m), *sizes, arithmetic, verdict)


def _heads(rows: Sequence[Printed]) -> Iterator[str]:
    heads: dict[Head, list[str]] = {}
    for printed in rows:
        if not printed.is_added:
            heads.setdefault(printed.head, []).append(printed.label)
    usual = max(heads, key=lambda head: len(heads[head]))
    for head, labels in heads.items():
        rows_of = "Head" if head == usual else f"Head of {', '.join(labels)}"
        yield f"{rows_of}: {head.words}, {head.formula} = {shown(head.value)}."


def _check(found: Finding) -> Check:
    """The count as a check: with the head where only so it is the printed one."""
    printed, count = found.printed, found.count
    recomputed, source = "", printed.counting.formula
    if count is not None:
        size = count.adapter
        if rounds_to(count.total, printed.params_m) and not rounds_to(size, printed.params_m):
            size, source = count.total, f"{source} + {printed.head.formula}"
        recomputed = f"{float(size / MILLION):.6f}"
    return Check(
        *("params", printed.table, printed.part, printed.method, "params_m"),
        printed=str(printed.params_m),
        recomputed=recomputed,
        recomputed_from=source,
        verdict=found.verdict.value,
        reason=found.words.lstrip(" ,:"),
        standing=STANDING[found.verdict],
    )
