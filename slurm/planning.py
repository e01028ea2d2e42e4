"""The missing cells as jobs: first stage 1, then cells that start from its checkpoints, last the tables.

A job is cells that one process runs one after the other on one device. Cells of one base, task and seed stay
together, so that the checkpoint they start from is read where it was just read. Nothing here talks to a
scheduler: a plan is a value, the same for the same store.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings, expected_seconds, pending, stage1_runs
from benchmarks.harness.forecast import Forecast
from benchmarks.harness.registry import benchmark_named

Seconds = Callable[[Cell], float | None]
"""How long a cell takes; None: not known."""

OTHERWISE = "from --seconds or --measure"
STAGE1, STAGE2, TIMED, TABLES = "stage 1", "stage 2", "timed", "tables"
ORDER = (STAGE1, STAGE2, TIMED)
"""Arrays of jobs in the order in which they may start: each after the one before it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Cells that one process runs in order.

    Attributes:
        array: One of ``ORDER``: jobs of one array start together.
        device: ``cuda`` or ``cpu``.
        cells: The cells.
        seconds: How long they take; None: not known of all of them.
    """

    array: str
    device: str
    cells: tuple[Cell, ...]
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What has to run.

    Attributes:
        jobs: In the order of their arrays.
        done: Cells that were chosen and have a fresh record.
    """

    jobs: tuple[Job, ...]
    done: int

    def of(self, array: str, device: str) -> tuple[Job, ...]:
        """The jobs of an array on one kind of device: what can be one array of Slurm."""
        return tuple(job for job in self.jobs if (job.array, job.device) == (array, device))

    def hours(self, device: str) -> float | None:
        """Hours of one kind of device over all jobs; None: not known."""
        seconds = _sum(job.seconds for job in self.jobs if job.device == device)
        return None if seconds is None else seconds / 3600

    def wall_hours(self, parallel: int) -> float | None:
        """Expected hours from the first job to the last, with so many jobs side by side; None: not known.

        Each array starts when the one before it has ended, and the longest jobs of an array start first.
        """
        total = 0.0
        for array in ORDER:
            seconds = [job.seconds for job in self.jobs if job.array == array]
            if None in seconds:
                return None
            total += _makespan([value for value in seconds if value is not None], parallel)
        return total / 3600


def plan(
    chosen: Sequence[Cell],
    settings: Settings,
    seconds: Seconds,
    *,
    hours: float,
    device: str,
    elsewhere: Collection[Cell] = (),
) -> Plan:
    """Plan the chosen cells that have no fresh record.

    Args:
        chosen: The cells.
        settings: How they will run; its store has the finished cells.
        seconds: How long a cell takes.
        hours: Length that jobs are filled up to; what is longer has a job of its own.
        device: Where cells run that do not name a device: ``cuda`` or ``cpu``.
        elsewhere: Cells that run or wait already: a stage 1 among them is not planned again.
    """
    todo = pending(chosen, settings)
    before = [cell for cell in stage1_runs(todo, settings) if cell not in elsewhere]
    first = [*before, *(cell for cell in todo if cell == cell.base)]
    units: defaultdict[tuple[str, str], list[tuple[Cell, ...]]] = defaultdict(list)
    for cell in first:
        array = TIMED if benchmark_named(cell.benchmark).is_timed else STAGE1
        units[array, _device(cell, device)].append((cell,))
    groups: defaultdict[Cell, list[Cell]] = defaultdict(list)
    for cell in todo:
        if cell != cell.base:
            groups[cell.base].append(cell)
    for cells in groups.values():
        units[STAGE2, _device(cells[0], device)].append(tuple(cells))
    jobs = [
        job
        for array in ORDER
        for (name, where), found in units.items()
        if name == array
        for job in _packed(array, where, found, seconds, 3600 * hours)
    ]
    return Plan(jobs=tuple(jobs), done=len(chosen) - len(todo))


def by_records(
    settings: Settings,
    otherwise: Seconds = lambda cell: None,
    *,
    kind: str | None = None,
    sources: Counter[str] | None = None,
) -> Seconds:
    """Return the time of cells from measured speeds, or from records of their method on their backbone.

    Args:
        settings: Its store has the records.
        otherwise: Returns the seconds of a cell that neither has; called once for a method on a backbone.
        kind: Name of the GPU or processor that cells will run on; None: not known, so that speeds do not
            count, and records of any do.
        sources: Counts how many answers came from what.
    """
    forecast = Forecast(settings, kind, any_device=kind is None)
    asked: dict[tuple[str, str, str], float | None] = {}
    counted: Counter[str] = Counter() if sources is None else sources

    def seconds(cell: Cell) -> float | None:
        found = forecast.known(cell)
        if found is not None:
            counted[found.source] += 1
            return found.seconds
        key = (cell.benchmark, cell.backbone, cell.method)
        if key not in asked:
            asked[key] = otherwise(cell)
        if asked[key] is not None:
            counted[OTHERWISE] += 1
        return asked[key]

    return seconds


def measured(settings: Settings) -> Seconds:
    """Return the time of cells from their benchmark's estimate: a few steps on this machine."""

    def seconds(cell: Cell) -> float | None:
        found = expected_seconds(cell, settings)
        return None if found is None else found[0]

    return seconds


def _packed(
    array: str, device: str, units: Sequence[tuple[Cell, ...]], seconds: Seconds, limit: float
) -> Iterable[Job]:
    """Fill jobs with units in order. A unit of unknown length, or one that is timed, gets its own job."""
    cells: list[Cell] = []
    filled = 0.0
    for unit in units:
        length = _sum(map(seconds, unit))
        if length is None or array == TIMED:
            yield Job(array=array, device=device, cells=unit, seconds=length)
            continue
        if cells and filled + length > limit:
            yield Job(array=array, device=device, cells=tuple(cells), seconds=filled)
            cells, filled = [], 0.0
        cells += unit
        filled += length
    if cells:
        yield Job(array=array, device=device, cells=tuple(cells), seconds=filled)


def _device(cell: Cell, otherwise: str) -> str:
    return benchmark_named(cell.benchmark).task(cell.task).device or otherwise


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _makespan(seconds: Sequence[float], parallel: int) -> float:
    """Return the seconds until the last job ends, if the longest start first on the first free worker."""
    workers = [0.0] * parallel
    for value in sorted(seconds, reverse=True):
        heapq.heapreplace(workers, workers[0] + value)
    return max(workers)
