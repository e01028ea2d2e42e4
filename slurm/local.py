"""Runs a plan on this machine: one process a GPU, each job on the GPU that is free first.

submitit's local executor starts everything at once and gives every job the same GPUs, hence this queue.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slurm.node import BuildTables, RunCells
from slurm.planning import ORDER, TIMED, Job

RUN = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))()"


def devices(workers: int | None) -> list[str]:
    """What each worker sees as ``CUDA_VISIBLE_DEVICES``: one GPU, or nothing on a machine without."""
    import torch

    gpus = [str(index) for index in range(torch.cuda.device_count())]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        gpus = visible.split(",")[: len(gpus)]
    return gpus if gpus else [""] * (workers or 1)


def run(
    jobs: Sequence[Job],
    task: Callable[[Job], RunCells],
    tables: BuildTables,
    places: Sequence[str],
    tell: Callable[[str], None],
) -> list[Job]:
    """Run the jobs array by array, then build the tables; return the jobs whose process failed."""
    failed: list[Job] = []
    for array in ORDER:
        chosen = [job for job in jobs if job.array == array]
        free: queue.Queue[str] = queue.Queue()
        for place in places[:1] if array == TIMED else places:
            free.put(place)

        def one(job: Job, free: queue.Queue[str] = free) -> None:
            place = free.get()
            try:
                tell(f"start: {job.array}, {len(job.cells)} cells, GPU {place or 'none'}")
                if _in_process(task(job), place):
                    failed.append(job)
                tell(f"end: {job.array}, {len(job.cells)} cells")
            finally:
                free.put(place)

        with ThreadPoolExecutor(max_workers=free.qsize()) as pool:
            list(pool.map(one, chosen))
    tables()
    return failed


def _in_process(task: RunCells, place: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.pkl"
        path.write_bytes(pickle.dumps(task))
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": place}
        command = [sys.executable, "-c", RUN, str(path)]
        return subprocess.run(command, env=environment, check=False).returncode
