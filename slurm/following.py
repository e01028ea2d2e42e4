"""The state of submitted cells, from their records and from Slurm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
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
    """Return the state of each submitted cell, by its last job."""
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
    ended = f"its job ended as {slurm.state}" if slurm else "Slurm does not know its job"
    return LOST, f"no record in {settings.store.root}; {ended}"


def _error(cell: Cell, settings: Settings) -> str:
    try:
        record = settings.store.load(cell)
    except InvalidRecord as error:
        return str(error)
    return "" if record is None else f"{record['status']}: {record['error']}"


def reasons(followed: Iterable[Followed]) -> Counter[str]:
    """Slurm's reasons why cells wait, and how many wait for each."""
    return Counter(one.reason or "no reason given" for one in followed if one.state == WAITING)


def tables(submissions: Sequence[Submission]) -> tuple[str, JobState | None]:
    """Return the state of the last submission's job that builds tables, as text and as Slurm has it."""
    last = [job for one in submissions[-1:] for job in one.jobs if job.array == TABLES]
    if not last:
        return "tables: no job builds them", None
    known = scheduler.states(job.id for job in last).get(last[0].id)
    word = known.state.lower() if known else "ended, and forgotten by Slurm"
    return f"tables: job {last[0].id}, {word}", known


def counted(followed: Iterable[Followed]) -> dict[str, dict[str, int]]:
    """How many cells of each method and backbone are in each state."""
    counts: dict[str, dict[str, int]] = {}
    for one in followed:
        cell = one.cell
        row = counts.setdefault(f"{cell.benchmark}/{cell.backbone}/*/{cell.method}", {})
        row[one.state] = row.get(one.state, 0) + 1
    return counts


def logs_of(cell: Cell, submissions: Sequence[Submission]) -> list[Path]:
    """The logs of all jobs that had a cell, the oldest first; those that wait have none yet."""
    return [one.log(job) for one in submissions for job in one.jobs if cell in job.cells]


def part_of(lines: Iterable[str], cell: Cell) -> list[str]:
    """Return the lines of a job's log that are of one of its cells, over all of the job's attempts.

    A job's cells run one after the other, and a line of the cell ends each; what is between the end of the
    cell before and its own end is of it.
    """
    found: list[str] = []
    part: list[str] = []
    for line in lines:
        part.append(line)
        name, _, word = line.partition(" ")
        if word.startswith("epoch ") or not _is_cell(name):
            continue
        if name == str(cell):
            found += part
        part = []
    if any(line.startswith(f"{cell} ") for line in part):
        found += part
    return found


def _is_cell(text: str) -> bool:
    try:
        Cell.parse(text)
    except UsageError:
        return False
    return True
