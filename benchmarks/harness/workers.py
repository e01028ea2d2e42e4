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
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from benchmarks.harness import beside
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import Event, Report, Settings
from benchmarks.harness.registry import benchmark_named

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    Events = Queue[Event]

POLL_SECONDS = 0.2

INTERRUPTED = 130
"""Exit code of a worker that Ctrl-C has ended."""

_events: Events | None = None
"""In a worker: the queue to the process that started it."""

_is_running = False
"""In a worker: whether it is running cells just now."""


def run_many(cells: Sequence[Cell], settings: Settings, jobs: int, report: Report) -> None:
    """Run cells over ``jobs`` processes and report what happens; the records are in the store.

    Cells that measure time run after all others, one at a time.

    Raises:
        UsageError: A worker process was killed from outside.
    """
    timed = [cell for cell in cells if benchmark_named(cell.benchmark).is_timed]
    others = [cell for cell in cells if cell not in timed]
    _run_groups(beside.groups_of(others, settings), settings, jobs, report)
    _run_groups(beside.groups_of(timed, settings), settings, 1, report)


def _run_groups(
    groups: Sequence[Sequence[Cell]], settings: Settings, jobs: int, report: Report
) -> None:
    if jobs == 1 or len(groups) <= 1:
        for group in groups:
            beside.run(group, settings, report)
        return
    spawn = multiprocessing.get_context("spawn")
    events: Events = spawn.Queue()
    with ProcessPoolExecutor(
        min(jobs, len(groups)), mp_context=spawn, initializer=_start_worker, initargs=(events,)
    ) as pool:
        running = {pool.submit(_run_group_in_worker, group, settings) for group in groups}
        try:
            _follow(running, events, report)
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


def _follow(running: set[Future[None]], events: Events, report: Report) -> None:
    while running:
        done, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        _pass_on(events, report)
        for future in done:
            future.result()
    _pass_on(events, report, wait_seconds=POLL_SECONDS)


def _pass_on(events: Events, report: Report, wait_seconds: float = 0.0) -> None:
    try:
        while True:
            report(events.get(timeout=wait_seconds) if wait_seconds else events.get_nowait())
    except queue.Empty:
        return


def _run_group_in_worker(cells: Sequence[Cell], settings: Settings) -> None:
    global _is_running
    assert _events is not None
    _is_running = True
    try:
        beside.run(cells, settings, _events.put)
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
    """Keep the queue, and end this worker when its parent is gone, even by ``kill -9``."""
    global _events
    _events = events
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, _on_interrupt)
