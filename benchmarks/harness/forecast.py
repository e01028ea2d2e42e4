"""Estimates the time of cells from measured speeds, earlier records, or a few timed steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tabulate import tabulate

from benchmarks.harness.beside import forward_key
from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings, pending
from benchmarks.harness.progress import duration, recorded_seconds
from benchmarks.harness.registry import BENCHMARKS, benchmark_named
from benchmarks.harness.runner import runner_of

if TYPE_CHECKING:  # it brings torch
    from benchmarks.speed.paces import Measured

SPEEDS = "by measured speeds"
RECORDS = "by earlier records"
STEPS = "measured from a few steps on this machine"

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Expected:
    """The expected time of a cell.

    Attributes:
        seconds: In one process on an idle machine; cells that share a forward pass run together.
        source: By what: ``SPEEDS``, ``RECORDS``, ``STEPS``, or what a person said.
        told: The step time, as text.
        where: What was measured.
    """

    seconds: float
    source: str
    told: str | None = None
    where: tuple[str, ...] = ()


Ask = Callable[[Cell], Expected | None]


class Forecast:
    """Known times of cells on one kind of device."""

    def __init__(
        self,
        settings: Settings,
        kind: str | None,
        *,
        any_device: bool = False,
        otherwise: Ask = lambda cell: None,
    ) -> None:
        """Read the records.

        Args:
            settings: Its store has the records.
            kind: Name of the GPU or processor; None: not known.
            any_device: Records of cells count whatever they ran on.
            otherwise: Called for cells without measured speeds or records.
        """
        self.settings, self.kind, self.otherwise = settings, kind, otherwise
        device = None if any_device else kind
        self._known = recorded_seconds(settings.store, device, dict(settings.overrides))
        self._measured: Measured | None = None

    def expected(self, cell: Cell) -> Expected | None:
        """Return the expected time of a cell; None: unknown."""
        return self.known(cell) or self.otherwise(cell) or self._like_others(cell)

    def known(self, cell: Cell) -> Expected | None:
        """Return the expected time of a cell from measured speeds or records."""
        is_beside = forward_key(cell, self.settings) is not None
        if found := self._by_speeds(cell, is_beside):
            return found
        seconds = self._known.get((cell.benchmark, cell.backbone, cell.method, is_beside))
        return Expected(median(seconds), RECORDS) if seconds else None

    def _by_speeds(self, cell: Cell, is_beside: bool) -> Expected | None:
        if self.kind is None:
            return None
        config = self.settings.config(cell)
        sizes = runner_of(cell).sizes(cell, config)
        if sizes is None:
            return None
        from benchmarks.speed import paces

        if self._measured is None:
            self._measured = paces.measured_on(self.settings.results, self.kind)
        beside = self.settings.side_by_side if is_beside else 1
        found = paces.pace_of(self._measured, cell, config, beside)
        if found is None:
            return None
        pace, where = found
        told = (
            f"{cell.method} on {cell.backbone}: {pace.step_seconds:.3g} s a step, "
            f"{1e3 * pace.image_seconds:.3g} ms an image evaluated"
        )
        return Expected(pace.seconds(config, sizes), SPEEDS, told, where)

    def _like_others(self, cell: Cell) -> Expected | None:
        """Estimate a cell from other methods of its benchmark if its own method is unknown."""
        same = [
            seconds
            for (benchmark, *_), found in self._known.items()
            if benchmark == cell.benchmark
            for seconds in found
        ]
        return Expected(median(same), RECORDS) if same else None


def estimate(cells: Sequence[Cell], forecast: Forecast, jobs: int) -> str:
    """Return a line with the expected time of cells, and its source.

    Args:
        cells: The cells that will run.
        forecast: What is known.
        jobs: Processes; cells that measure time take turns.
    """
    if not cells:
        return "cells to run: 0"
    total, sources, unknown = 0.0, set(), 0
    for cell in cells:
        found = forecast.expected(cell)
        if found is None:
            unknown += 1
            continue
        sources.add(found.source)
        total += found.seconds / _processes(cell, jobs)
    known = len(cells) - unknown
    how = f"about {duration(total)} in {jobs} processes, {' and '.join(sorted(sources))}"
    if not unknown:
        return f"cells to run: {len(cells)}, {how}"
    some = f"; the other {known} take {how}" if known else ""
    return f"cells to run: {len(cells)}; no record of this scale has the time of {unknown} of them{some}"


def by_table(benchmarks: Sequence[str], forecast: Forecast, jobs: int) -> str | None:
    """Return the expected time of the benchmarks' whole tables, and of their missing cells; None: no table.

    Stage-1 runs count once in each table that starts from them.

    Args:
        benchmarks: Their names.
        forecast: What is known; cells that nothing is known of are counted.
        jobs: Processes.
    """
    cells: dict[str, dict[Cell, None]] = {}
    for name in benchmarks:
        for table, found in _cells_of_tables(name, forecast.settings.scale):
            cells.setdefault(table, {}).update(dict.fromkeys(found))
    rows = []
    for table in sorted(cells, key=lambda one: (not one.startswith("table"), one)):
        missing = set(pending(cells[table], forecast.settings))
        whole, left, unknown = 0.0, 0.0, 0
        for cell in cells[table]:
            expected = forecast.known(cell) or forecast.otherwise(cell)
            seconds = 0.0 if expected is None else expected.seconds / _processes(cell, jobs)
            unknown += expected is None
            whole += seconds
            left += seconds if cell in missing else 0.0
        count = len(cells[table])
        is_known = unknown < count
        rows.append(
            [
                table,
                count,
                duration(whole) if is_known else NOT_KNOWN,
                len(missing),
                (duration(left) if is_known else NOT_KNOWN) if missing else "",
                f"without {unknown} cells of unknown time" if is_known and unknown else "",
            ]
        )
    headers = ["table", "cells", "all of them", "missing", "those", ""]
    return tabulate(rows, headers=headers, disable_numparse=True) if rows else None


def _cells_of_tables(benchmark_name: str, scale_name: str) -> list[tuple[str, list[Cell]]]:
    benchmark = BENCHMARKS[benchmark_name]
    scale = benchmark.scales.get(scale_name)
    if scale is None:
        return []
    declared = list(benchmark.cells(scale))
    found = []
    for table in benchmark.tables:
        if table.backbone >= len(scale.backbones):
            continue
        backbone = scale.backbones[table.backbone]
        here = [cell for cell in declared if cell.backbone == backbone]
        rows = set(table.rows) if not benchmark.is_timed else set(benchmark.methods)
        bases = {cell.base for cell in here if cell.method in rows}
        found.append((table.name, [c for c in here if c.method in rows or c in bases]))
    return found


def _processes(cell: Cell, jobs: int) -> int:
    return 1 if benchmark_named(cell.benchmark).is_timed else jobs
