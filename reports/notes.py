"""Footnotes of a table: why a cell has no number, or fewer seeds than declared."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase
from typing import TYPE_CHECKING

from benchmarks.harness.store import State

if TYPE_CHECKING:
    from reports.comparable import Measurement

LISTED = 8
"""A footnote names so many cells, then says how many more; ``benchmarks verify`` has them all."""


class Notes:
    """Footnotes in order of appearance: one letter for each kind of reason."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}

    def mark(self, measurements: Iterable[Measurement]) -> str:
        """Return the letters for what is wrong with these cells; nothing for those just missing."""
        letters: dict[str, None] = {}
        for found in measurements:
            if found.state is State.MISSING or (found.record and not found.caveat):
                continue
            kind, named = _describe(found)
            cells = self._cells.setdefault(kind, [])
            if named not in cells:
                cells.append(named)
            letters[self._letter(kind)] = None
        return ",".join(letters)

    def lines(self) -> list[tuple[str, str]]:
        """The footnotes: letter and text."""
        return [(self._letter(kind), _text(kind, cells)) for kind, cells in self._cells.items()]

    def _letter(self, kind: str) -> str:
        return ascii_lowercase[list(self._cells).index(kind)]


def _describe(found: Measurement) -> tuple[str, str]:
    if found.caveat:
        return f"DRAFT, {found.caveat}", str(found.cell)
    if found.is_refused:
        return f"not used, {found.reason}", str(found.cell)
    if found.state is State.NOT_OK:
        return f"status {found.reason}", str(found.cell)
    if found.state is State.INVALID:
        return "not used, the record is not valid", f"{found.path} ({found.reason})"
    return "not used, the record is of another configuration", f"{found.path} ({found.reason})"


def _text(kind: str, cells: list[str]) -> str:
    more = f", and {len(cells) - LISTED} more" if len(cells) > LISTED else ""
    return f"{kind}: {', '.join(cells[:LISTED])}{more}"
