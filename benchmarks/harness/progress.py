"""What a person sees while cells run: a bar with the cell's name, rate and time left."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from types import TracebackType
from typing import Self

from tqdm import tqdm

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Event
from benchmarks.harness.record import InvalidRecord
from benchmarks.harness.registry import benchmark_named
from benchmarks.harness.store import Store


class Progress:
    """A bar over cells; failures are printed above it as they come."""

    def __init__(self, total: int) -> None:
        """Open a bar over ``total`` cells."""
        self._bar = tqdm(total=total, unit="cell", dynamic_ncols=True, smoothing=0.1)
        self.failed: list[Cell] = []

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
        """Take in an event of a cell."""
        if event.status is None:
            self._bar.set_postfix_str(f"{event.cell} {event.epoch}/{event.epochs}")
            return
        self._bar.update()
        self._bar.set_postfix_str(str(event.cell))
        if event.status != "ok":
            self.failed.append(event.cell)
            tqdm.write(f"{event.status}: {event.cell}: {event.error}")


def estimate(cells: Sequence[Cell], store: Store, jobs: int) -> str:
    """Say how long cells will take, by the median seconds of their methods' records so far."""
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _, cell in store.files():
        with suppress(InvalidRecord):
            record = store.load(cell) if cell else None
            if cell and record and record["status"] == "ok":
                seconds[cell.benchmark, cell.method].append(record["cost"]["total_seconds"])
    if not seconds:
        return f"cells to run: {len(cells)}; no record of this scale says how long one takes"
    typical = median(value for values in seconds.values() for value in values)
    total = 0.0
    for cell in cells:
        processes = 1 if benchmark_named(cell.benchmark).is_timed else jobs
        total += median(seconds.get((cell.benchmark, cell.method), [typical])) / processes
    wait = f"{max(1, total):.0f} s" if total < 120 else f"{total / 60:.0f} minutes"
    return f"cells to run: {len(cells)}, about {wait} in {jobs} processes, by earlier records"


def default_jobs(device: str) -> int:
    """Return how many processes to use: one on a GPU, else one for each core that we may use."""
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return 1 if device.startswith("cuda") else len(os.sched_getaffinity(0))
