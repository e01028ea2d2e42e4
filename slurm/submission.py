"""What was submitted: one folder a submission, with its jobs' cells, scripts and logs.

The file has the cells of each job, and nothing else. Their state comes from the records and from Slurm.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.lock import Lock

FILE = "submission.json"
LOCK_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """One job.

    Attributes:
        id: Slurm's number, such as ``12_3``.
        array: Name of the plan's array.
        cells: Its cells; none for the job that builds the tables.
    """

    id: str
    array: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Jobs that were submitted together."""

    folder: Path
    jobs: tuple[Submitted, ...]

    @property
    def name(self) -> str:
        """Its name, which is when it was made."""
        return self.folder.name

    def log(self, job: Submitted) -> Path:
        """The log of a job; of one that was requeued all of it."""
        return self.folder / "logs" / job.id / f"{job.id}_0_log.out"


def root(work: Path, scale: str) -> Path:
    """Return the folder of a scale's submissions."""
    return work / scale / "slurm"


@contextmanager
def locked(folder: Path, name: str = "lock", seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold a lock of a folder: of two ``submit`` at once the second sees what the first has submitted.

    Raises:
        UsageError: Another process does not let go of it within some seconds.
    """
    end = time.monotonic() + seconds
    lock = Lock(folder / name)
    while not lock.take():
        if time.monotonic() >= end:
            raise UsageError(
                f"another command uses {folder}: {lock.owner} holds the lock {folder / name}"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


def new_folder(folder: Path) -> Path:
    """Make the folder of a new submission."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        made = folder / (f"{stamp}-{number}" if number else stamp)
        try:
            made.mkdir(parents=True)
        except FileExistsError:
            continue
        return made
    raise RuntimeError(f"cannot make a folder below {folder}")


def drop_if_empty(folder: Path) -> None:
    """Remove the folder of a submission if no job was accepted."""
    if not (folder / FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)


def save(folder: Path, jobs: Sequence[Submitted]) -> Submission:
    """Write the cells of each job, in one atomic write."""
    entries = [{"id": j.id, "array": j.array, "cells": list(map(str, j.cells))} for j in jobs]
    temporary = folder / f".tmp-{FILE}-{os.getpid()}"
    temporary.write_text(json.dumps({"jobs": entries}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / FILE)
    return Submission(folder=folder, jobs=tuple(jobs))


def load_all(folder: Path) -> list[Submission]:
    """Read all submissions, the oldest first."""
    return [_load(path) for path in sorted(folder.glob(f"*/{FILE}"))]


def _load(path: Path) -> Submission:
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["jobs"]
    jobs = tuple(
        Submitted(id=e["id"], array=e["array"], cells=tuple(map(Cell.parse, e["cells"])))
        for e in entries
    )
    return Submission(folder=path.parent, jobs=jobs)
