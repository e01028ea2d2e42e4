"""Cells that train at the same time on one device, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.speed.world import Size, World
from benchmarks.training.precision import Precision

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

LONGEST_START, LONGEST_RUN = 90.0, 120.0


def images_per_second_of(count: int, size: Size) -> float:
    """Return images a second of ``count`` processes together, each with a bf16 cell of its own.

    Raises:
        RuntimeError: A process did not come to its end.
    """
    spawn = multiprocessing.get_context("spawn")
    together: Barrier = spawn.Barrier(count)
    speeds: Queue[float] = spawn.Queue()
    processes = [
        spawn.Process(target=_train, args=(seed, size, together, speeds), daemon=True)
        for seed in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONGEST_START + LONGEST_RUN)
    failed = [process for process in processes if process.exitcode != 0]
    for process in failed:
        process.terminate()
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} processes failed")
    return sum(speeds.get(timeout=5) for _ in processes)


def _train(seed: int, size: Size, together: Barrier, speeds: Queue[float]) -> None:
    import torch

    torch.set_num_threads(1)
    world = World(size)
    with tempfile.TemporaryDirectory() as folder:
        stage = world.stage(Path(folder), seed, Precision("bf16"))
        stage.train_epoch(0)
        together.wait(LONGEST_START)
        started = perf_counter()
        for _ in range(size.rounds):
            stage.train_epoch(0)
        seconds = perf_counter() - started
    speeds.put(size.rounds * world.problem.steps * size.batch_size / seconds)
