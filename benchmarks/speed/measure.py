"""Times all training configurations in order; the file is complete after each."""

from __future__ import annotations

import gc
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.cost.timing import fast_algorithms, no_collection, summary
from benchmarks.harness import provenance
from benchmarks.harness.errors import TimeLimit
from benchmarks.speed.epochs import epochs_of
from benchmarks.speed.floor import matmul_rate, step_flops
from benchmarks.speed.plain import plain_epoch, plain_evaluation, write_files
from benchmarks.speed.processes import images_per_second_of
from benchmarks.speed.ways import PLAIN, PROCESSES, Way, ways_on
from benchmarks.speed.world import Size, World
from benchmarks.training.data import EVALUATION_BATCH, Images
from benchmarks.training.precision import Name, Precision
from benchmarks.vtab1k.spec import VTAB1K

FILE = "speed.json"
EPOCHS, TRAIN_IMAGES, BATCH, EVALUATIONS = 100, 1000, 32, 10
"""A stage of VTAB-1K at the scale ``paper``."""

FIRST = 8
"""Number of configurations measured before those with processes, which take long to start."""

OUT_OF_TIME = "out of time"


class Measurement:
    """All configurations on one machine."""

    def __init__(
        self,
        size: Size,
        out: Path | None,
        *,
        budget_seconds: float = math.inf,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Build the backbone.

        Args:
            size: How much is measured.
            out: Folder of the file; None: there is none.
            budget_seconds: After that no further way is begun.
            tell: Called after each way with their numbers so far and in all.
        """
        self.size, self.out, self.tell = size, out, tell
        self.started, self.budget = perf_counter(), budget_seconds
        self.world = World(size)
        self.found: dict[str, Any] = {
            "size": asdict(size),
            "hardware": provenance.hardware(size.device),
            "environment": provenance.environment(),
            "code": provenance.code(),
            "ways": {},
            "left_out": {},
            "protocol": {
                "images_per_second": "median and quartiles over rounds; a round is an epoch or its first "
                "steps, with the reading of the mean loss at its end",
                "floor_share": "FLOPs of the steps (matrix products, attention in its plain form) over "
                "their time, over the measured rate of a large product at the way's precision",
                "cells_per_hour": f"stages of {EPOCHS} epochs of {TRAIN_IMAGES // BATCH} steps of {BATCH}; "
                f"with_evaluation: and {EVALUATIONS} evaluations of the mean test split of VTAB-1K",
            },
        }

    def run(self) -> dict[str, Any]:
        """Measure everything; return what the file has."""
        with tempfile.TemporaryDirectory() as name, fast_algorithms():
            folder = Path(name)
            self._floor(folder)
            self._evaluation()
            first, *others = ways_on(self.size.device)
            self.total = 1 + len(others) + len((PLAIN, PROCESSES))
            self._try_ways([first], folder)
            self._try(PLAIN, lambda: self._plain(folder))
            self._try_ways(others[:FIRST], folder)
            self._try(PROCESSES, self._processes)
            self._try_ways(others[FIRST:], folder)
        self.found["seconds"] = perf_counter() - self.started
        self._write()
        return self.found

    def _try_ways(self, ways: list[Way], folder: Path) -> None:
        for way in ways:
            self._try(way.name, lambda way=way: self._way(way, folder))  # type: ignore[misc]

    def _floor(self, folder: Path) -> None:
        device = self.size.device
        names: tuple[Name, ...] = ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32", "bf16")
        self.found["matmul_flops_per_second"] = {n: matmul_rate(device, n) for n in names}
        self.found["step_flops"] = step_flops(self.world, folder)
        self._free()

    def _evaluation(self) -> None:
        """Take the speed of evaluation, on the training images."""
        train = self.world.problem.train
        copies = -(-EVALUATION_BATCH // len(train)) if self.size.device == "cuda" else 1
        images = Images(
            train.pixels.repeat(copies, 1, 1, 1), train.labels.repeat(copies), train.normalise
        )
        model, _ = self.world.adapted(0)
        speeds = {}
        names: tuple[Name, ...] = ("fp32", "bf16")
        for name in names:
            precision = Precision(name)
            with precision.session(self.size.device), torch.inference_mode():
                for _ in range(2):
                    started = perf_counter()
                    with precision.forward(self.size.device):
                        self.world.problem.accuracy(model.eval(), images)
                    speeds[name] = len(images) / (perf_counter() - started)
        self.found["evaluated_per_second"] = speeds
        self._write()

    def _try(self, name: str, measure: Callable[[], None]) -> None:
        """Measure a configuration; if that fails, store the reason."""
        if perf_counter() - self.started > self.budget:
            self.found["left_out"][name] = OUT_OF_TIME
            return
        started = perf_counter()
        try:
            measure()
            self.found["ways"][name]["measured_in_seconds"] = perf_counter() - started
        except TimeLimit:
            raise
        except Exception as problem:  # noqa: BLE001 - a compiler or driver may raise anything
            self.found["left_out"][name] = f"{type(problem).__name__}: {problem}".splitlines()[0][
                :300
            ]
        self._free()
        self._write()
        self.tell(len(self.found["ways"]) + len(self.found["left_out"]), self.total)

    def _way(self, way: Way, folder: Path) -> None:
        with epochs_of(way, self.world, folder) as epoch:
            self._add(way.name, way.label, epoch, way.precision, max(1, way.beside))

    def _plain(self, folder: Path) -> None:
        paths = write_files(folder)
        with Precision("fp32").session(self.size.device):
            model, _ = self.world.adapted(0)
            self.found["evaluated_per_second"][PLAIN] = plain_evaluation(model, self.size, paths)
            label = f"plain loop: {self.size.workers} workers decode JPEGs, fp32"
            self._add(PLAIN, label, plain_epoch(self.world, paths), "fp32", 1)

    def _processes(self) -> None:
        count = int(PROCESSES.rpartition("-")[2])
        speed = images_per_second_of(count, self.size)
        self._keep(PROCESSES, f"bf16, one process a cell, {count} at once", [speed], "bf16", count)

    def _add(
        self, name: str, label: str, epoch: Callable[[], int], precision: Name, cells: int
    ) -> None:
        on_gpu = self.size.device == "cuda"
        epoch()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        speeds = []
        with no_collection():
            for _ in range(self.size.rounds):
                started = perf_counter()
                images = epoch()
                if on_gpu:
                    torch.cuda.synchronize()
                speeds.append(images / (perf_counter() - started))
        memory = torch.cuda.max_memory_allocated() if on_gpu else None
        self._keep(name, label, speeds, precision, cells, memory)

    def _keep(
        self,
        name: str,
        label: str,
        speeds: list[float],
        precision: Name,
        cells: int,
        memory: int | None = None,
    ) -> None:
        speed = summary(speeds)
        median = speed["median"] or 0.0
        flops = self.found["step_flops"] / self.size.batch_size
        evaluated = self.found["evaluated_per_second"]
        training = EPOCHS * (TRAIN_IMAGES // BATCH) * BATCH / median
        tested = sum(task.n_test for task in VTAB1K.tasks) / len(VTAB1K.tasks)
        key = PLAIN if name == PLAIN else "bf16" if precision == "bf16" else "fp32"
        whole = training + EVALUATIONS * tested / evaluated[key]
        self.found["ways"][name] = {
            "label": label,
            "precision": precision,
            "cells_at_once": cells,
            "images_per_second": speed,
            "rounds": speeds,
            "step_seconds": self.size.batch_size * cells / median,
            "floor_share": flops * median / self.found["matmul_flops_per_second"][precision],
            "cells_per_hour": {
                "training": 3600 / training,
                "with_evaluation": 3600 / whole,
            },
            "peak_gpu_memory_bytes": memory,
        }

    def _free(self) -> None:
        gc.collect()
        if self.size.device == "cuda":
            torch.cuda.empty_cache()

    def _write(self) -> None:
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        temporary = self.out / f".tmp-{FILE}"
        temporary.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.out / FILE)
