"""Runs one cell, or the cells that share a stage 1. A failed cell is a record and does not stop the run."""

from __future__ import annotations

import os
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial

from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.devices import default_device as default_device
from benchmarks.harness.devices import device_of as device_of
from benchmarks.harness.errors import TimeLimit, UsageError
from benchmarks.harness.lock import held
from benchmarks.harness.record import InvalidRecord, Outcome, Record, build_record, not_finite
from benchmarks.harness.registry import declared
from benchmarks.harness.runner import runner_of
from benchmarks.harness.settings import Settings as Settings
from benchmarks.harness.stage1 import checkpoint_sha256, recorded_sha256
from benchmarks.harness.store import Stamp, State, Store
from benchmarks.harness.time_limit import time_limit

RERUN: dict[str, frozenset[State]] = {
    "missing": frozenset({State.MISSING, State.INVALID}),
    "failed": frozenset({State.MISSING, State.INVALID, State.NOT_OK, State.STALE}),
    "all": frozenset(State),
}
"""Which states are run: what is not there; also what failed or was of another configuration (the
default); everything."""


@dataclass(frozen=True)
class Event:
    """An event of a cell: its end (``trace``: the stack of a defect), an epoch, or a note to print."""

    cell: Cell
    status: str | None = None
    error: str | None = None
    trace: str | None = None
    epoch: int = 0
    epochs: int = 0
    note: str | None = None


Report = Callable[[Event], None]

Seen = Mapping[Cell, Stamp | None]
"""The records of cells as they were when a run was planned: one that has changed is another run's."""


def pending(cells: Iterable[Cell], settings: Settings, rerun: str = "failed") -> list[Cell]:
    """Return the cells that have to run; reads records, loads neither data nor models."""
    return [cell for cell in cells if settings.state(cell) in RERUN[rerun]]


def lacking(
    cells: Sequence[Cell], settings: Settings, *, fetch: bool = True
) -> dict[str, list[Cell]]:
    """Return what is not there and how to get it -> the cells that need it; no model is loaded.

    Args:
        cells: The cells that are to run.
        settings: How to run.
        fetch: Whether weights that are not on this machine are fetched, once all data are there.
    """
    context = context_of(settings, device="cpu")
    found: dict[str, list[Cell]] = {}
    for part in ("task", "backbone"):
        alike: defaultdict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in cells:
            alike[cell.benchmark, getattr(cell, part)].append(cell)
        for group in alike.values():
            runner, first = runner_of(group[0]), (group[0], settings.config(group[0]), context)
            try:
                if part == "task":
                    runner.require(*first)
                else:
                    runner.require_weights(*first, fetch=fetch and not found)
            except UsageError as error:
                found.setdefault(str(error), []).extend(group)
    return _joined(found)


def _joined(found: dict[str, list[Cell]]) -> dict[str, list[Cell]]:
    """Join equal messages about several tasks into one."""
    alike: defaultdict[str, list[Cell]] = defaultdict(list)
    for text, cells in found.items():
        alike[text.replace(f"{cells[0].benchmark}/{cells[0].task}", "\0")].extend(cells)
    joined = {}
    for text, cells in alike.items():
        names = list(dict.fromkeys(f"{cell.benchmark}/{cell.task}" for cell in cells))
        # The first place names the tasks, the others are in commands.
        first, *rest = text.split("\0", 1)
        whole = names[0] if len(names) == 1 else cells[0].benchmark
        joined[
            "".join([first, *(", ".join(names) + part for part in rest)]).replace("\0", whole)
        ] = cells
    return joined


def stage1_runs(cells: Sequence[Cell], settings: Settings) -> list[Cell]:
    """Return the stage-1 cells that are not among the cells, but must run before them."""
    bases = {cell.base: cell for cell in cells if cell != cell.base and cell.base not in cells}
    return [base for base, cell in bases.items() if not has_stage1(cell, settings)]


def expected_seconds(cell: Cell, settings: Settings) -> tuple[float, str] | None:
    """Time a few steps of a cell; return its expected seconds, and a line about the measurement.

    None if its runner cannot tell.
    """
    prepare_process(settings)
    context = context_of(settings, device=device_of(cell, settings.device))
    return runner_of(cell).expected_seconds(cell, settings.config(cell), context)


class Attempt:
    """One try at a cell, from its start to its record."""

    def __init__(
        self, cell: Cell, settings: Settings, report: Report, *, keep_fresh: bool = False
    ) -> None:
        """Start the clock.

        Args:
            cell: The cell.
            settings: How it runs.
            report: Told of the end.
            keep_fresh: Do not replace a fresh record: the cell runs again for its checkpoint alone.
        """
        self.cell, self.settings, self.report = cell, settings, report
        self.keep_fresh = keep_fresh
        self.started = datetime.now(UTC)

    def end(self, found: Outcome | BaseException) -> str:
        """Write the record of the results or of the error; return its status."""
        cell, settings = self.cell, self.settings
        try:
            record = self._record(found)
        except InvalidRecord as problem:  # what was measured is no number, or none of its kind
            found = problem
            record = self._record(found)
        status, error = record["status"], record["error"]
        recorded, written = recorded_sha256(cell, settings), checkpoint_sha256(record)
        is_other = None not in (recorded, written) and recorded != written
        if not (self.keep_fresh and settings.state(cell) is State.FRESH) or is_other:
            settings.store.write(cell, record)
        trace = None
        if (
            status == "failed"
            and isinstance(found, Exception)
            and not isinstance(found, UsageError)
        ):
            trace = "".join(traceback.format_exception(found))
        self.report(Event(cell, status, error, trace))
        return str(status)

    def _record(self, found: Outcome | BaseException) -> Record:
        cell, settings = self.cell, self.settings
        status, error = _verdict(found)
        benchmark, scale = declared(cell, settings.scale)
        return build_record(
            benchmark,
            scale,
            cell,
            settings.config(cell),
            status=status,
            error=error,
            outcome=found if isinstance(found, Outcome) and status == "ok" else Outcome(),
            sources=benchmark.sources(cell, scale, settings.overrides),
            where={
                "code": provenance.code(),
                "environment": provenance.environment(),
                "hardware": provenance.hardware(device_of(cell, settings.device)),
            },
            run={
                "started_at": self.started.isoformat(timespec="seconds"),
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "attempt": _attempts(settings.store, cell) + 1,
                "overrides": dict(settings.overrides),
            },
        )


def is_end_of_job(problem: Exception) -> bool:
    """Whether submitit's signal handler ends a job that is not requeued any more.

    It does so in the middle of a cell, which has not failed, and leaves no record.
    """
    return type(problem).__name__ == "UncompletedJobError"


def run_cell(cell: Cell, settings: Settings, report: Report, *, keep_fresh: bool = False) -> str:
    """Run one cell, write its record also if it fails, and return its status.

    Args:
        cell: The cell.
        settings: How to run.
        report: Told of each epoch, and of the end.
        keep_fresh: As ``Attempt`` takes it.
    """
    attempt = Attempt(cell, settings, report, keep_fresh=keep_fresh)
    found: Outcome | Exception
    try:
        with time_limit(settings.timeout_seconds):
            context = context_of(settings, device_of(cell, settings.device), report)
            found = runner_of(cell).run(cell, settings.config(cell), context)
    except (KeyboardInterrupt, SystemExit) as stop:
        attempt.end(stop)
        raise
    except Exception as problem:  # the one place where any failure becomes a record
        if is_end_of_job(problem):
            raise
        found = problem
    return attempt.end(found)


def run_group(
    cells: Sequence[Cell], settings: Settings, report: Report, seen: Seen | None = None
) -> list[Cell]:
    """Run the cells of one base, task and seed, stage 1 first where it is needed.

    Args:
        cells: The cells.
        settings: How to run.
        report: Told of each epoch, and of the ends.
        seen: Their records when the run was planned; None: as they are now.

    Returns:
        The cells that another run is at work on, or on the stage 1 they start from: they are left out.
    """
    prepare_process(settings)
    seen = settings.store.stamps(cells) if seen is None else seen
    elsewhere: list[Cell] = []
    base_status: str | None = None
    for cell in sorted(cells, key=lambda cell: cell != cell.base):
        with held(settings.lock_of(cell)) as is_ours:
            if not is_ours:
                elsewhere.append(cell)
                continue
            status = ended_elsewhere(cell, settings, report, seen)
            if cell == cell.base:
                base_status = run_cell(cell, settings, report) if status is None else status
                continue
            if status is not None:
                continue
            if not has_stage1(cell, settings) and base_status in (None, "ok"):
                base_status = _run_stage1(cell, settings, report)
                if base_status is None:
                    elsewhere.append(cell)
                    continue
            run_cell(cell, settings, report)
    return elsewhere


def _run_stage1(cell: Cell, settings: Settings, report: Report) -> str | None:
    """Run the base of a cell for its checkpoint; None: another run is at work on it."""
    with held(settings.lock_of(cell.base)) as is_ours:
        if not is_ours:
            return None
        if has_stage1(cell, settings):  # another run has just come to its end
            return "ok"
        return run_cell(cell.base, settings, without_end(report), keep_fresh=True)


def ended_elsewhere(cell: Cell, settings: Settings, report: Report, seen: Seen) -> str | None:
    """Report the end of a cell that another run has come to since this one was planned; None: none has."""
    if settings.store.stamp(cell) == seen.get(cell):
        return None
    try:
        record = settings.store.load(cell)
    except InvalidRecord:
        return None
    if record is None or record["status"] == "cancelled":
        return None
    status = str(record["status"])
    report(Event(cell, note=f"{cell}: {status}, by another run"))
    report(Event(cell, status, record["error"]))
    return status


def without_end(report: Report) -> Report:
    """Report the epochs, but not the end, of a stage 1 that was not selected."""
    return lambda event: report(event) if event.status is None else None


def has_stage1(cell: Cell, settings: Settings) -> bool:
    """Whether the checkpoint that a cell starts from is at hand."""
    context = context_of(settings, device="cpu")
    return runner_of(cell).is_stage1_kept(cell, settings.config(cell), context)


def context_of(settings: Settings, device: str, report: Report | None = None) -> Context:
    """Return the context that a runner gets besides the cell; ``report`` gets each epoch."""

    def on_epoch(cell: Cell, epoch: int, epochs: int) -> None:
        if report is not None:
            report(Event(cell, epoch=epoch, epochs=epochs))

    work = settings.work / settings.scale
    return Context(
        data=settings.data,
        work=work,
        device=device,
        on_epoch=on_epoch,
        weights=settings.weights,
        caching=settings.caching and not settings.plain,
        waits=settings.waits or settings.plain,
        plain=settings.plain,
        recorded_stage1=partial(recorded_sha256, settings=settings),  # travels to other processes
    )


def prepare_process(settings: Settings) -> None:
    """Set torch's number of threads and deterministic algorithms."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def _verdict(found: Outcome | BaseException) -> tuple[str, str | None]:
    """Return the status and, unless it is ``ok``, one line about the error."""
    if isinstance(found, Outcome):
        place = not_finite(asdict(found))
        return ("ok", None) if place is None else ("diverged", f"not finite: {place}")
    if isinstance(found, Exception):
        return _status(found), f"{type(found).__name__}: {found}".splitlines()[0]
    return "cancelled", "stopped by the user"


def _status(problem: Exception) -> str:
    """Name the kind of failure."""
    if isinstance(problem, TimeLimit):
        return "timeout"
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return "oom"
    return "diverged" if type(problem).__name__ == "Diverged" else "failed"


def _attempts(store: Store, cell: Cell) -> int:
    try:
        record = store.load(cell)
    except InvalidRecord:
        return 0
    return 0 if record is None else int(record["run"]["attempt"])
