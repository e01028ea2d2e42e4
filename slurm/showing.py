"""A plan in words."""

from __future__ import annotations

from tabulate import tabulate

from benchmarks.harness.progress import duration
from slurm.planning import ORDER, TABLES, Plan


def table_of(found: Plan) -> str:
    """The arrays of a plan: how many jobs and cells, and how long the longest is."""
    rows: list[list[object]] = []
    for array in ORDER:
        for device in dict.fromkeys(job.device for job in found.jobs):
            jobs = found.of(array, device)
            if jobs:
                known = [job.seconds for job in jobs if job.seconds is not None]
                longest = duration(max(known)) if len(known) == len(jobs) else "not known"
                cells = sum(len(job.cells) for job in jobs)
                rows.append([array, device, len(jobs), cells, longest])
    rows.append([TABLES, "cpu", 1, "", ""])
    return tabulate(rows, headers=["array, in order", "device", "jobs", "cells", "longest job"])


def cells_of(found: Plan) -> list[str]:
    """The cells of every job."""
    lines = []
    for number, job in enumerate(found.jobs, start=1):
        length = "length not known" if job.seconds is None else duration(job.seconds)
        lines.append(f"job {number}, {job.array}, {job.device}, {length}:")
        lines += [f"  {cell}" for cell in job.cells]
    return lines


def totals_of(found: Plan, parallel: int, todo: int) -> list[str]:
    """How many jobs and GPU hours, and how long it takes; or what is not known."""
    unknown = sorted(
        {
            f"{cell.method} on {cell.backbone}"
            for job in found.jobs
            if job.seconds is None
            for cell in job.cells
        }
    )
    jobs = len(found.jobs) + 1
    if unknown:
        some = ", ".join(unknown[:4]) + (
            f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        )
        return [
            f"{jobs} jobs for {todo} cells; their time is not known: no record of {some}",
            "give the seconds of such a cell with --seconds S; python -m benchmarks run SELECTOR --dry-run "
            "measures a few steps",
        ]
    gpu, wall = found.hours("cuda"), found.wall_hours(parallel)
    assert gpu is not None
    assert wall is not None
    return [
        f"{jobs} jobs for {todo} cells, {gpu:,.1f} GPU hours; with {parallel} jobs at the same time about "
        f"{duration(3600 * wall)}, without waiting in a queue"
    ]
