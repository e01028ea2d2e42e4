"""The commands ``status``, ``logs`` and ``cancel``, for cells that were submitted."""

from __future__ import annotations

import argparse
import time
from typing import Any

from tabulate import tabulate

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import DONE, INCOMPLETE, SOME_FAILED, UsageError
from benchmarks.harness.execute import Settings
from benchmarks.harness.registry import select
from slurm import following, scheduler, submission
from slurm.following import FAILED, LOST, RUNNING, STATES, WAITING
from slurm.scheduler import JobState, NoSlurm, SlurmError

LISTED = 8
TAIL = 40
UNBUILT = ("FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
"""States of a job that should have built the tables and did not."""


def add_to(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    shower = commands.add_parser(
        "status", parents=[common], help="show the state of submitted cells"
    )
    shower.add_argument("--watch", type=positive, nargs="?", const=10.0, metavar="SECONDS",
                        help="repeat every SECONDS until no cell runs or waits")  # fmt: skip
    shower.add_argument("--deadline-hours", type=positive, default=168.0, metavar="H",
                        help="stop watching after H hours (default: 168)")  # fmt: skip
    logger = commands.add_parser(
        "logs", parents=[common], help="print what a job logged about a cell"
    )
    logger.add_argument("cell")
    logger.add_argument("--all", action="store_true", help="print the job's whole log")
    canceller = commands.add_parser(
        "cancel", parents=[common], help="cancel all jobs of a scale, or those of some cells"
    )
    canceller.add_argument("selectors", nargs="*", metavar="SELECTOR")


def status(given: argparse.Namespace, settings: Settings) -> int:
    """Print the state of the cells, once or until no cell runs or waits."""
    end = time.monotonic() + 3600 * given.deadline_hours
    while True:
        try:
            code = _shown(given, settings)
        except NoSlurm:
            raise
        except SlurmError as error:
            if not given.watch:
                raise
            # A controller can be restarted; the jobs continue.
            print(f"{error}; asking again", flush=True)
            code = INCOMPLETE
        if code != INCOMPLETE or not given.watch:
            return code
        if time.monotonic() + given.watch > end:
            print(f"stopped watching after {given.deadline_hours:g} hours; the jobs continue")
            return INCOMPLETE
        time.sleep(given.watch)
        print(flush=True)


def _shown(given: argparse.Namespace, settings: Settings) -> int:
    submissions = _submissions(given)
    if not submissions:
        print(_nothing(given))
        return DONE
    found = following.follow(submissions, settings)
    counts = following.counted(found)
    rows = [[name, *(row.get(state, "") for state in STATES)] for name, row in counts.items()]
    total = [sum(one.state == state for one in found) or "" for state in STATES]
    print(tabulate([*rows, ["all", *total]], headers=["cells", *STATES]))
    for reason, count in following.reasons(found).most_common():
        print(f"waiting: {count} cells: {reason}")
    for state in (FAILED, LOST):
        told = [one for one in found if one.state == state]
        for one in told[:LISTED]:
            print(f"{state}: {one.cell}: {one.reason}")
        if len(told) > LISTED:
            print(f"... and {len(told) - LISTED} more {state}")
    text, job = following.tables(submissions)
    print(text, flush=True)
    return _verdict(given, {one.state for one in found}, job)


def _verdict(given: argparse.Namespace, states: set[str], tables: JobState | None) -> int:
    if states & {RUNNING, WAITING} or (tables and tables.is_active):
        return INCOMPLETE
    if states & {FAILED, LOST}:
        print(f"python -m slurm resubmit --failed --scale {given.scale} submits them again")
        return SOME_FAILED
    if tables and tables.state in UNBUILT:
        print(f"python -m reports build --scale {given.scale} builds them")
        return SOME_FAILED
    return DONE


def logs(given: argparse.Namespace, settings: Settings) -> int:
    """Print what a cell's last job logged about it."""
    cell = Cell.parse(given.cell)
    submissions = _submissions(given)
    paths = following.logs_of(cell, submissions)
    if not paths:
        select([given.cell], given.scale)  # an unknown name gives its own error
        raise UsageError(
            f"{cell} was not submitted at scale {given.scale}: python -m slurm status lists what was"
        )
    found = next(one for one in following.follow(submissions, settings) if one.cell == cell)
    for path in paths[:-1]:
        print(f"earlier: {path}{'' if path.exists() else ' (never started)'}")
    print(f"{paths[-1]} ({found.state}{': ' + found.reason if found.reason else ''})")
    if not paths[-1].exists():
        print("no log yet" if found.state == WAITING else "no log: its job never started")
        return INCOMPLETE
    lines = paths[-1].read_text(encoding="utf-8", errors="replace").splitlines()
    part = following.part_of(lines, cell)
    if not part and not given.all:
        print("its job has not started it yet; the end of the job's log:")
    print("\n".join(lines if given.all else (part or lines)[-TAIL:]))
    return DONE


def cancel(given: argparse.Namespace, settings: Settings) -> int:
    """Cancel all jobs of a scale, or those whose unfinished cells are all selected."""
    jobs = [job for one in _submissions(given) for job in one.jobs]
    known = scheduler.states(job.id for job in jobs)
    active = [job for job in jobs if job.id in known and known[job.id].is_active]
    if not given.selectors:
        scheduler.cancel((job.id for job in active), whole=True)
        print(f"cancelled: {len(active)} jobs")
        return DONE
    chosen = set(select(given.selectors, given.scale))
    touched = [job for job in active if chosen.intersection(job.cells)]
    waiting = {
        one.cell
        for one in following.follow(_submissions(given), settings)
        if one.state in (RUNNING, WAITING)
    }
    whole = [job for job in touched if waiting.intersection(job.cells) <= chosen]
    scheduler.cancel((job.id for job in whole), whole=False)
    print(f"cancelled: {len(whole)} jobs")
    if len(whole) < len(touched):
        print(f"left: {len(touched) - len(whole)} jobs that also run other cells")
    return DONE


def _submissions(given: argparse.Namespace) -> list[submission.Submission]:
    return submission.load_all(submission.root(given.work, given.scale))


def _nothing(given: argparse.Namespace) -> str:
    folder = submission.root(given.work, given.scale)
    return f"nothing was submitted at scale {given.scale} in {folder} (--work chooses the folder)"


def positive(text: str) -> float:
    """Read a number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def whole(text: str) -> int:
    """Read a whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
