"""What the store holds for one declared cell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Record
from benchmarks.harness.store import State


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the store holds for one declared cell.

    Attributes:
        cell: The cell.
        state: How its record stands to what is declared.
        reason: For a record that is not used, why not, on one line.
        path: Where the record lies or would lie, below the folder of results.
        record: The record, if it is used.
        value: The primary metric in the tables' unit, if the record is used.
        caveat: Why a record that is used makes its table a draft; None if it does not.
    """

    cell: Cell
    state: State
    reason: str | None
    path: str
    record: Record | None
    value: float | None
    caveat: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether there is a fresh record, which the table does not take."""
        return self.state is State.FRESH and self.record is None

    def refused(self, reason: str) -> Measurement:
        """Return the same cell as a hole."""
        return replace(self, reason=reason, record=None, value=None)
