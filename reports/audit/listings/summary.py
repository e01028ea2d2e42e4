"""What all audits come to: how many printed values they looked at, and how many do not follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.audit.check import Check, Standing
from reports.audit.layout import Column, Listing, Section

COLUMNS = (Column("audit", 10), Column("looks at", 46), Column("values", 6, is_number=True))
HEADINGS = {
    Standing.FOLLOWS: "follow",
    Standing.CONDITIONAL: "only under\na condition",
    Standing.UNCHECKED: "not\nchecked",
    Standing.DOES_NOT: "do not\nfollow",
}
LOOKS_AT = {
    "params": "trainable parameters, Tables 1, 2, 3 and 5",
    "averages": "averages, Tables 2 to 5",
    "deltas": "what is printed twice, Tables 1 to 6 and text",
    "flops": "FLOPs, Table 6",
}


def listing(checks: Sequence[Check]) -> Listing:
    """Count the checks by audit, and the printed values once each, by the worst that was found of them."""
    by_audit: dict[str, list[Standing]] = {}
    for check in checks:
        by_audit.setdefault(check.audit, []).append(check.standing)
    worst = list(standings(checks).values())
    shown = [
        standing for standing in Standing if any(standing in found for found in by_audit.values())
    ]
    rows = [_row(audit, LOOKS_AT[audit], found, shown) for audit, found in by_audit.items()]
    rows.append(_row("all", "each printed value once, by the worst", worst, shown))
    columns = (*COLUMNS, *(Column(HEADINGS[one], 12, is_number=True) for one in shown))
    lost = worst.count(Standing.DOES_NOT)
    return Listing(
        title="Summary",
        sections=(Section("Printed values by audit", columns, tuple(rows)),),
        closing=f"{len(worst)} printed values checked; {lost} do not follow.",
    )


def standings(checks: Sequence[Check]) -> dict[tuple[str, str, str, str], Standing]:
    """The worst standing of each printed value."""
    order = list(Standing)
    worst: dict[tuple[str, str, str, str], Standing] = {}
    for check in checks:
        known = worst.get(check.value, Standing.FOLLOWS)
        worst[check.value] = max(known, check.standing, key=order.index)
    return worst


def _row(
    audit: str, words: str, found: Sequence[Standing], shown: Sequence[Standing]
) -> tuple[str, ...]:
    counts = Counter(found)
    numbers = (str(counts[standing]) if counts[standing] else "" for standing in shown)
    return (audit, words, str(len(found)), *numbers)
