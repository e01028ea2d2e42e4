"""Progress of a run: a bar with the cell's name, rate and time left; in a log, lines."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Event
from benchmarks.harness.record import InvalidRecord
from benchmarks.harness.store import Store
from data_prep.progress import Bar, Pace

__all__ = ["Pace", "Progress", "default_jobs", "duration", "recorded_seconds"]


class Progress:
    """A bar over cells; failures are printed above it."""

    def __init__(self, total: int) -> None:
        """Open a bar over ``total`` cells."""
        self._bar = Bar(total=total, unit="cell", smoothing=0.1)
        self.failed: list[Cell] = []
        self._traces: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def tell(self, event: Event) -> None:
        """Handle an event of a cell."""
        if event.note is not None:
            Bar.write(event.note)
            return
        if event.status is None:
            self._bar.set_postfix_str(f"{event.cell} {event.epoch}/{event.epochs}")
            return
        self._bar.update()
        self._bar.set_postfix_str(str(event.cell))
        if event.status != "ok":
            self.failed.append(event.cell)
            Bar.write(f"{event.status}: {event.cell}: {event.error}")
            if (
                event.trace and event.trace not in self._traces
            ):  # of many cells with one defect, once
                self._traces.add(event.trace)
                Bar.write(event.trace, file=sys.stderr)


def duration(seconds: float) -> str:
    """Return seconds as text in seconds, minutes or hours."""
    if seconds < 120:
        return f"{max(1, seconds):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.0f} hours"


def recorded_seconds(
    store: Store, device: str | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[tuple[str, str, str, bool], list[float]]:
    """Return the seconds of the ``ok`` records by benchmark, backbone, method, and being side by side.

    Args:
        store: The records.
        device: Count records of this kind of processor or GPU alone; None: of any.
        overrides: Count records with just these settings replaced; None: with any.
    """
    seconds: defaultdict[tuple[str, str, str, bool], list[float]] = defaultdict(list)
    for _, cell in store.files():
        with suppress(InvalidRecord):
            record = store.load(cell) if cell else None
            if cell and record and record["status"] == "ok":
                hardware, cost = record["hardware"], record["cost"]
                same = overrides in (None, record["run"].get("overrides", {}))
                seconds_taken = cost.get("total_seconds")
                if seconds_taken is None:
                    continue
                if same and device in (None, hardware.get("gpu") or hardware.get("cpu")):
                    is_beside = cost.get("side_by_side", 1) > 1
                    key = (cell.benchmark, cell.backbone, cell.method, is_beside)
                    seconds[key].append(seconds_taken)
    return seconds


def default_jobs(device: str) -> int:
    """Return the default number of processes: one on a GPU, else one for each usable core."""
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return 1 if device.startswith("cuda") else len(os.sched_getaffinity(0))
