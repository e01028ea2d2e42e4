"""What every audit gives: the printed values that it looked at, and tables with notes, as Markdown or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from string import ascii_lowercase
from typing import NamedTuple

import pandas as pd

from reports.render import md as escape

VIT = "ViT-B/16"
"""The part of Tables 2, 5 and 6, which have one network and no headings of parts."""


class Standing(Enum):
    """How a printed value stands; the later, the worse."""

    FOLLOWS = "follow"
    CONDITIONAL = "only under a condition"
    UNCHECKED = "not checked"
    DOES_NOT = "do not follow"


class Check(NamedTuple):
    """A printed value and what was found.

    Attributes:
        audit: Name of the audit.
        table: Name of the table, or of the section of the text.
        part: Heading of a part of the table; empty in the text.
        row: Name of the method, with the suffix of its penalty.
        what: Name of the column.
        printed: The value as printed.
        recomputed: What it is held against; empty where there is nothing.
        recomputed_from: Where that comes from: arithmetic, or places in the paper.
        verdict: How the two compare, in words.
        reason: What is known about it; empty where nothing is.
        standing: The verdict in common terms.
    """

    audit: str
    table: str
    part: str
    row: str
    what: str
    printed: str
    recomputed: str
    recomputed_from: str
    verdict: str
    reason: str
    standing: Standing

    @property
    def follows(self) -> bool:
        """Whether the printed value is the one that it is held against."""
        return self.standing is Standing.FOLLOWS


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its heading and the notes below it; ``right``: headings whose cells stand to the right."""

    title: str
    headings: Sequence[str]
    right: Sequence[str] = ()
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an audit has to say.

    Attributes:
        title: Its heading.
        sections: Its tables.
        closing: What it comes to, in a sentence or two.
        checks: All printed values that it looked at, those left out of the tables too.
    """

    title: str
    sections: Sequence[Section]
    closing: str
    checks: Sequence[Check] = ()


class Notes:
    """Sentences below a table, each with the letter by which cells refer to it."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the mark of a sentence, which is a new one if the sentence is."""
        return f"[{self._letters.setdefault(text, ascii_lowercase[len(self._letters)])}]"

    @property
    def lines(self) -> list[str]:
        """The sentences with their marks."""
        return [
            f"[{letter}] {text[0].upper()}{text[1:]}." for text, letter in self._letters.items()
        ]


def markdown(listing: Listing) -> str:
    """Lay out as Markdown tables, with notes below each."""
    parts = [f"# {escape(listing.title)}"]
    for section in listing.sections:
        rows = [list(map(escape, row)) for row in section.rows]
        aligned = ["right" if name in section.right else "left" for name in section.headings]
        table: str = pd.DataFrame(rows, columns=list(section.headings)).to_markdown(
            index=False, disable_numparse=True, colalign=aligned
        )
        parts += [f"## {escape(section.title)}", table]
        if section.notes:
            parts.append("\n".join(f"- {escape(line)}" for line in section.notes))
    return "\n\n".join([*parts, escape(listing.closing)])


def as_csv(checks: Sequence[Check]) -> str:
    """Lay out every printed value that was looked at as CSV."""
    text: str = pd.DataFrame(checks).drop(columns="standing").to_csv(index=False)
    return text.rstrip("\n")


def summary(checks: Sequence[Check]) -> Listing:
    """Count the checks by audit, and the printed values once each, by the worst that was found of them."""
    frame = pd.DataFrame(checks)
    frame["rank"] = frame["standing"].map(list(Standing).index)
    value = ["table", "part", "row", "what"]
    worst = frame.sort_values("rank").drop_duplicates(value, keep="last")
    counted = {name: of["standing"] for name, of in frame.groupby("audit", sort=False)}
    counted["all"] = worst["standing"]
    shown = [one for one in Standing if (frame["standing"] == one).any()]
    rows = [
        [name, LOOKS_AT[name], str(len(of)), *(str((of == one).sum() or "") for one in shown)]
        for name, of in counted.items()
    ]
    headings = ["audit", "looks at", "values", *(one.value for one in shown)]
    lost = (worst["standing"] == Standing.DOES_NOT).sum()
    return Listing(
        title="Summary",
        sections=[
            Section(
                title="Printed values by audit", headings=headings, right=headings[2:], rows=rows
            )
        ],
        closing=f"{len(worst)} printed values checked; {lost} do not follow.",
    )


LOOKS_AT = {
    "params": "trainable parameters, Tables 1, 2, 3 and 5",
    "averages": "averages, Tables 2 to 5",
    "deltas": "what is printed twice, Tables 1 to 6 and text",
    "flops": "FLOPs, Table 6",
    "all": "each printed value once, by the worst",
}


def row_of_table6(method: str) -> str:
    """The name of a row of Table 6 as printed: without the rank, which the table does not give."""
    return method.replace("-r2", "")
