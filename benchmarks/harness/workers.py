"""Runs many cells over several processes.

Cells of one base, task and seed form a group, which one process runs in order, so that stage 1 is
trained once and every second stage finds its checkpoint; cells that train side by side, a larger one.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from benchmarks.harness import beside
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import Event, Report, Seen, Settings, ended_elsewhere
from benchmarks.harness.lock import Lock, is_free
from benchmarks.harness.registry import benchmark_named

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    Events = Queue[Event]

POLL_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

INTERRUPTED = 130
"""Exit code of a worker that Ctrl-C ended."""

_events: Events | None = None
"""In a worker: the queue to the process that started it."""

_is_running = False
"""In a worker: whether it is running cells."""


def run_many(
    cells: Sequence[Cell],
    settings: Settings,
    jobs: int,
    report: Report,
    *,
    seen: Seen | None = None,
    waits: bool = True,
) -> list[Cell]:
    """Run cells over ``jobs`` processes and report what happens; the records are in the store.

    Cells that measure time run after all others, one at a time. Cells that another run is at work on come
    last: they are waited for, and run here if that run leaves them.

    Args:
        cells: The cells.
        settings: How to run.
        jobs: Processes.
        report: Told of what happens.
        seen: The cells' records when the run was planned; None: as they are now.
        waits: Wait for the cells of other runs; if not, they are left to them.

    Returns:
        The cells that are left to other runs.

    Raises:
        UsageError: A worker process was killed from outside.
    """
    seen = settings.store.stamps(cells) if seen is None else seen
    timed = [cell for cell in cells if benchmark_named(cell.benchmark).is_timed]
    others = [cell for cell in cells if cell not in timed]
    left: list[Cell] = []
    for part, processes in ((others, jobs), (timed, 1)):
        elsewhere = _run_groups(beside.groups_of(part, settings), settings, processes, report, seen)
        _tell_of(elsewhere, settings, report, waits)
        pause = POLL_SECONDS
        while elsewhere and waits:
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
            elsewhere = [c for c in elsewhere if ended_elsewhere(c, settings, report, seen) is None]
            free = [c for c in elsewhere if _is_free(c, settings)]
            groups = beside.groups_of(free, settings)
            again = _run_groups(groups, settings, processes, report, seen)
            elsewhere = [c for c in elsewhere if c not in free] + again
        left += elsewhere
    return left


def _is_free(cell: Cell, settings: Settings) -> bool:
    return all(is_free(settings.lock_of(one)) for one in {cell, cell.base})


def _tell_of(cells: Sequence[Cell], settings: Settings, report: Report, waits: bool) -> None:
    """Say which cells are another run's, and whose."""
    for cell in cells:
        one = cell if not is_free(settings.lock_of(cell)) else cell.base
        what = "waited for" if waits else "left to it"
        report(
            Event(
                cell,
                note=f"{cell}: {Lock(settings.lock_of(one)).owner} is at work on {one}; {what}",
            )
        )


def _run_groups(
    groups: Sequence[Sequence[Cell]], settings: Settings, jobs: int, report: Report, seen: Seen
) -> list[Cell]:
    if jobs == 1 or len(groups) <= 1:
        return [cell for group in groups for cell in beside.run(group, settings, report, seen)]
    spawn = multiprocessing.get_context("spawn")
    events: Events = spawn.Queue()
    with ProcessPoolExecutor(
        min(jobs, len(groups)), mp_context=spawn, initializer=_start_worker, initargs=(events,)
    ) as pool:
        running = {
            pool.submit(_run_group_in_worker, group, settings, {c: seen.get(c) for c in group})
            for group in groups
        }
        try:
            return _follow(running, events, report)
        except BrokenProcessPool as error:
            raise UsageError(
                "a worker process was killed (out of memory?); finished cells are kept: "
                "run the same command again, perhaps with fewer --jobs"
            ) from error
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGINT)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _follow(running: set[Future[list[Cell]]], events: Events, report: Report) -> list[Cell]:
    elsewhere: list[Cell] = []
    while running:
        done, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        _pass_on(events, report)
        for future in done:
            elsewhere += future.result()
    _pass_on(events, report, wait_seconds=POLL_SECONDS)
    return elsewhere


def _pass_on(events: Events, report: Report, wait_seconds: float = 0.0) -> None:
    try:
        while True:
            report(events.get(timeout=wait_seconds) if wait_seconds else events.get_nowait())
    except queue.Empty:
        return


def _run_group_in_worker(cells: Sequence[Cell], settings: Settings, seen: Seen) -> list[Cell]:
    global _is_running
    assert _events is not None
    _is_running = True
    try:
        return beside.run(cells, settings, _events.put, seen)
    except KeyboardInterrupt:
        # The cell's record is written; a worker that went on would take the next group.
        os._exit(INTERRUPTED)
    finally:
        _is_running = False


def _on_interrupt(signum: int, frame: object) -> None:
    # A terminal sends Ctrl-C to all processes and our parent passes it on: once is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not _is_running:
        os._exit(INTERRUPTED)
    raise KeyboardInterrupt


def _start_worker(events: Events) -> None:
    """Store the queue, and end this worker when its parent ends, also after ``kill -9``."""
    global _events
    _events = events
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, _on_interrupt)
