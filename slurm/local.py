"""Runs a plan on this machine: one process a GPU, each job on the first free GPU.

submitit's local executor starts everything at once and gives every job the same GPUs, hence this queue.
A process ends with the command that started it, even by ``kill -9``.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from slurm.planning import ORDER, TIMED, Job

RUN = "import sys; from slurm.local import work; work(sys.argv[1])"
Task = Callable[[], Any]
"""What runs in a process of its own; must travel there."""

PATIENCE = 10.0
"""Seconds after which a process that has not stopped gets the signal again."""


def devices(workers: int | None) -> list[str]:
    """What each worker sees as ``CUDA_VISIBLE_DEVICES``: one GPU, or nothing on a machine without."""
    import torch

    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        gpus = visible.split(",")[: len(gpus)]
    return gpus if gpus else [""] * (workers or 1)


def run(
    jobs: Sequence[Job],
    task: Callable[[Job], Task],
    places: Sequence[str],
    tell: Callable[[str], None],
) -> list[Job]:
    """Run the jobs array by array; return those whose process failed.

    Args:
        jobs: The jobs.
        task: What a job runs.
        places: What each worker sees as ``CUDA_VISIBLE_DEVICES``.
        tell: Told of each start and end.

    Raises:
        KeyboardInterrupt: Ctrl-C, after all processes have ended; what has not started does not.
    """
    workers = _Workers(task, tell)
    for array in ORDER:
        chosen = [job for job in jobs if job.array == array]
        free: queue.Queue[str] = queue.Queue()
        for place in places[:1] if array == TIMED else places:
            free.put(place)
        with ThreadPoolExecutor(max_workers=free.qsize()) as pool:
            try:
                list(pool.map(lambda job, free=free: workers.run(job, free), chosen))
            except KeyboardInterrupt:
                workers.stop()
                raise
    return workers.failed


class _Workers:
    """The processes that run just now."""

    def __init__(self, task: Callable[[Job], Task], tell: Callable[[str], None]) -> None:
        self.failed: list[Job] = []
        self._task = task
        self._tell = tell
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False

    def run(self, job: Job, free: queue.Queue[str]) -> None:
        """Run a job where there is room, and wait for its end."""
        place = free.get()
        try:
            if self._is_stopped:
                return
            what = f"{job.array}, {len(job.cells)} cells"
            self._tell(f"start: {what}, GPU {place or 'none'}")
            code = self._in_process(self._task(job), place)
            if code:
                self.failed.append(job)
            self._tell(f"end: {what}{_why(code)}")
        finally:
            free.put(place)

    def stop(self) -> None:
        """Start nothing more, and have each process write down that its cell was cancelled."""
        with self._lock:
            self._is_stopped = True
            running = set(self._running)
        while running:
            for process in running:
                process.send_signal(signal.SIGINT)
            # Python drops the exception where it comes up in a destructor or a callback: then once more.
            again = monotonic() + PATIENCE
            while running and monotonic() < again:
                sleep(0.1)
                with self._lock:
                    running &= self._running

    def _in_process(self, task: Task, place: str) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "task.pkl"
            path.write_bytes(pickle.dumps(task))
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": place}
            with self._lock:
                if self._is_stopped:
                    return 0
                # A session of its own: a terminal's Ctrl-C comes through us alone, once.
                process = subprocess.Popen(
                    [sys.executable, "-c", RUN, str(path)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                assert process.stdin is not None
                process.stdin.close()
                with self._lock:
                    self._running.discard(process)


def work(path: str) -> None:
    """In a process of its own: run what a file has, and end when the parent is gone."""
    # Written by the parent a moment ago, in a folder that this user alone can open (``mkdtemp``).
    task: Task = pickle.loads(Path(path).read_bytes())

    def watch() -> None:
        # The parent holds the other end and writes nothing: this returns when it is gone.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        task()
    except KeyboardInterrupt:
        sys.exit(1)


def _why(code: int) -> str:
    if not code:
        return ""
    if code > 0:
        return f"; its process failed with {code}"
    return f"; its process was killed by {signal.Signals(-code).name}"
