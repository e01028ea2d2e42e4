"""Every printed count of trainable parameters beside ours: Tables 1, 2, 3 and 5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.harness.errors import UsageError
from reports import published
from reports.audit import retrieval, vtab
from reports.audit.arithmetic import evaluate
from reports.audit.counting import HEADS, Count, Counting, Head, Verdict, judge, shown
from reports.published import load_parts

Counter = Callable[[str, Counting], tuple[Count | None, str]]

TABLES = (1, 2, 3, 5)
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


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A count as the paper prints it.

    Attributes:
        table: Number of the table.
        part: Heading of a part of it; empty where there is one.
        backbone: Name of the network.
        method: Name of the method, with the suffix of its penalty.
        label: Printed name of the row.
        params_m: Millions, with the printed digits.
    """

    table: int
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
    def counting(self) -> Counting:
        """How its count is made."""
        return COUNTINGS[self.backbone][self.base]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the audit.

    Attributes:
        printed: What the paper prints.
        count: Ours; None where it could not be counted.
        verdict: How the two compare.
        words: What completes the verdict.
    """

    printed: Printed
    count: Count | None
    verdict: Verdict
    words: str

    @property
    def counting(self) -> Counting:
        """How the count is made."""
        return self.printed.counting

    @property
    def head(self) -> Head:
        """What is trained behind the network."""
        return HEADS[self.counting.head or self.printed.backbone]

    @property
    def is_added(self) -> bool:
        """Whether the row adds a penalty to another one."""
        return self.printed.method != self.printed.base


def printed_counts(table: int) -> Iterator[Printed]:
    """The counts of one table, in printed order."""
    name = f"table{table}"
    if table in (1, 3):
        for part in load_parts(name).parts:
            for row in part.rows:
                yield Printed(
                    table=table,
                    part=part.name,
                    backbone=part.backbone,
                    method=row.method,
                    label=row.label,
                    params_m=row.params_m,
                )
        return
    for entry in published.load(name).rows:
        yield Printed(
            table=table,
            part="ViT-B/16",
            backbone="vit_b16",
            method=entry.method,
            label=entry.label,
            params_m=entry.params_m,
        )


def audit(tables: Iterable[int] = TABLES) -> list[Finding]:
    """Build the networks without weights, count what each method trains, and compare.

    Raises:
        UsageError: A package that the networks need is not installed.
    """
    rows = [printed for table in tables for printed in printed_counts(table)]
    try:
        # Late: torch, timm and transformers take seconds to import.
        from reports.audit import networks

        return [_finding(printed, networks.count) for printed in rows]
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the audit builds the networks, for which {error.name or error} is missing; "
            "install the suite: pip install -e '.[suite]'"
        ) from error


def _finding(printed: Printed, count: Counter) -> Finding:
    counting = printed.counting
    counted, reason = count(printed.backbone, counting)
    head_is_open = printed.backbone in HEAD_IS_OPEN
    verdict, words = judge(counting, printed.params_m, counted, head_is_open=head_is_open)
    if counted is None and verdict is Verdict.NOT_COUNTED:
        words = f": {reason}"
    if counted is not None and (value := evaluate(counting.formula)) != counted.adapter:
        words += f". The arithmetic is wrong: it gives {shown(value)}, not {shown(counted.adapter)}"
    return Finding(printed=printed, count=counted, verdict=verdict, words=words)
