"""What has become of the cells that were submitted: the store and Slurm together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings
from benchmarks.harness.record import InvalidRecord
from benchmarks.harness.store import State
from slurm import scheduler
from slurm.planning import TABLES
from slurm.scheduler import JobState
from slurm.submission import Submission, Submitted

DONE, RUNNING, WAITING, FAILED, LOST = "done", "running", "waiting", "failed", "lost"
STATES = (DONE, RUNNING, WAITING, FAILED, LOST)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A submitted cell.

    Attributes:
        cell: The cell.
        state: One of ``STATES``; lost: no record, and no job that will make one.
        reason: Why it failed, waits or was lost; empty where there is nothing to say.
        submission: The last submission that has it.
        job: Its job there.
    """

    cell: Cell
    state: str
    reason: str
    submission: Submission
    job: Submitted


def follow(submissions: Sequence[Submission], settings: Settings) -> list[Followed]:
    """Say what has become of every cell that was submitted, by its last job."""
    last: dict[Cell, tuple[Submission, Submitted]] = {}
    for one in submissions:
        for job in one.jobs:
            for cell in job.cells:
                last[cell] = (one, job)
    known = scheduler.states(job.id for _, job in last.values())
    return [
        _followed(cell, one, job, known.get(job.id), settings) for cell, (one, job) in last.items()
    ]


def _followed(
    cell: Cell, one: Submission, job: Submitted, slurm: JobState | None, settings: Settings
) -> Followed:
    state, reason = _state(cell, slurm, settings)
    return Followed(cell=cell, state=state, reason=reason, submission=one, job=job)


def _state(cell: Cell, slurm: JobState | None, settings: Settings) -> tuple[str, str]:
    stored = settings.state(cell)
    if stored is State.FRESH:
        return DONE, ""
    if slurm is not None and slurm.is_running:
        return RUNNING, ""
    if slurm is not None and slurm.is_active:
        return WAITING, slurm.reason
    if stored is State.NOT_OK:
        return FAILED, _error(cell, settings)
    if stored in (State.INVALID, State.STALE):
        return FAILED, f"its record is {stored.value}"
    return LOST, f"its job ended as {slurm.state}" if slurm else "Slurm does not know its job"


def _error(cell: Cell, settings: Settings) -> str:
    try:
        record = settings.store.load(cell)
    except InvalidRecord as error:
        return str(error)
    return "" if record is None else f"{record['status']}: {record['error']}"


def tables(submissions: Sequence[Submission]) -> str:
    """Say how the job that builds the tables of the last submission stands."""
    last = [job for one in submissions[-1:] for job in one.jobs if job.array == TABLES]
    if not last:
        return "tables: no job builds them"
    known = scheduler.states(job.id for job in last).get(last[0].id)
    word = known.state.lower() if known else "ended, and forgotten by Slurm"
    return f"tables: job {last[0].id}, {word}"


def counted(followed: Iterable[Followed]) -> dict[str, dict[str, int]]:
    """How many cells of each method and backbone are in each state."""
    counts: dict[str, dict[str, int]] = {}
    for one in followed:
        cell = one.cell
        row = counts.setdefault(f"{cell.benchmark}/{cell.backbone}/*/{cell.method}", {})
        row[one.state] = row.get(one.state, 0) + 1
    return counts
