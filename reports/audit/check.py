"""One printed value held against something: what every audit gives, however it compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

VIT = "ViT-B/16"
"""The part of Tables 2, 5 and 6, which have one network and no headings of parts."""


class Standing(Enum):
    """How a printed value stands; the later, the worse."""

    FOLLOWS = "follows"
    CONDITIONAL = "follows only under a condition"
    UNCHECKED = "not checked"
    DOES_NOT = "does not follow"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A printed value and what was found.

    Attributes:
        audit: Name of the audit.
        table: Name of the table, or of the section of the text.
        part: Heading of a part of the table; empty in the text.
        row: Name of the method, with the suffix of its penalty.
        what: Name of the column.
        printed: The value as printed.
        recomputed: What it is held against; empty where there is nothing.
        source: Where that comes from: arithmetic, or places in the paper.
        verdict: How the two compare, in words.
        reason: What is known about it; empty where nothing is.
        standing: The verdict in common terms.
        details: More columns, of this audit alone.
    """

    audit: str
    table: str
    part: str = VIT
    row: str
    what: str
    printed: str
    recomputed: str
    source: str
    verdict: str
    reason: str = ""
    standing: Standing
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def value(self) -> tuple[str, str, str, str]:
        """Which printed value it is: several audits may look at one."""
        return self.table, self.part, self.row, self.what


def row_of_table6(method: str) -> str:
    """The name of a row of Table 6 as printed: without the rank, which the table does not give."""
    return method.replace("-r2", "")
