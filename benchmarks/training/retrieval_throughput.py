"""Seconds and memory of a training step of each method of a retrieval benchmark, all methods taking turns.

Random weights and pairs; the batch is on the device and the same for all. Memory on a GPU: the peak that
torch allocates in a step, with what the method keeps between steps and without what belongs to the others.
On a CPU: the peak resident memory of a process that makes two steps of this method and nothing else.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cost.timing import fast_algorithms, no_collection, rotated, summary
from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import DONE, USAGE, UsageError, unknown
from benchmarks.harness.execute import default_device
from benchmarks.harness.memory import peak_of_this_process
from benchmarks.harness.spec import Benchmark, Config
from benchmarks.training.retrieval_pace import Prepared, RandomProblem, prepare


@dataclass(frozen=True)
class Timed:
    """What is timed.

    Attributes:
        benchmark: Its declaration; its one task is timed.
        problem: Makes a problem with a random batch.
        cpu_batch: Pairs of a step on a CPU.
        settings: Settings besides the batch that a command line may change: name -> dotted name.
        about: First paragraph of the help.
    """

    benchmark: Benchmark
    problem: Callable[[Config, Context], RandomProblem]
    cpu_batch: int
    about: str
    settings: Mapping[str, str]

    def cell(self, method: str, backbone: str) -> Cell:
        """Return the cell of a method."""
        name = self.benchmark.name
        return Cell(name, backbone, self.benchmark.tasks[0].name, method, 0)

    def config(self, cell: Cell, scale: str, batch: int, more: Mapping[str, Any]) -> Config:
        """Return a cell's configuration with random weights, another batch and other settings."""
        overrides = {
            "backbone.weights": "random",
            "stage1.batch_size": batch,
            "stage2.batch_size": batch,
            **more,
        }
        return self.benchmark.config(cell, self.benchmark.scales[scale], overrides)


@dataclass(frozen=True)
class Setting:
    """How it is timed.

    Attributes:
        scale: The scale whose configuration cells have.
        device: ``cpu`` or ``cuda``.
        batch: Pairs of a step.
        more: Other settings, by dotted name.
    """

    scale: str
    device: str
    batch: int
    more: Mapping[str, Any]


def context_on(device: str) -> Context:
    """Return a context for steps that read and write nothing."""
    return Context(data=Path(), work=Path(), device=device, on_epoch=lambda *_: None, weights=None)


def measure(
    timed: Timed,
    cells: Sequence[Cell],
    setting: Setting,
    *,
    rounds: int,
    with_memory: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return seconds of a step and memory, by method.

    Args:
        timed: What is timed.
        cells: One cell for each method.
        setting: How.
        rounds: Rounds that count; one before them warms up.
        with_memory: Whether to measure memory too, which takes a process a method on a CPU.
    """
    ready: dict[str, Prepared] = {}
    network: nn.Module | None = None
    with tempfile.TemporaryDirectory() as folder, fast_algorithms():
        for cell in cells:
            config = timed.config(cell, setting.scale, setting.batch, setting.more)
            problem = timed.problem(config, context_on(setting.device))
            network = network or problem.backbone().to(setting.device)
            _share(problem, network)
            ready[cell.method] = prepare(cell, config, Path(folder), problem)
            for parameter in ready[cell.method].stage.trained:  # trained parameters are not shared
                parameter.data = parameter.data.clone()
        seconds = _in_turns(ready, setting.device, rounds)
        memory: dict[str, int] = {}
        if with_memory and setting.device.startswith("cuda"):
            memory = {name: _peak_on_gpu(one) for name, one in ready.items()}
        elif with_memory:
            memory = _peaks_of_processes(timed, cells, setting)
    for one in ready.values():
        one.close()
    return {
        name: {"seconds": summary(seconds[name]), "memory_bytes": memory.get(name)}
        for name in ready
    }


def _share(problem: RandomProblem, network: nn.Module) -> None:
    """Let the problem's models have backbones that are views of one network's parameters."""

    def view() -> nn.Module:
        memo: dict[int, Any] = {id(p): nn.Parameter(p.data) for p in network.parameters()}
        return copy.deepcopy(network, memo)

    problem.backbone = view  # type: ignore[method-assign]


def _in_turns(ready: Mapping[str, Prepared], device: str, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ready}
    with no_collection():
        for index in range(-1, rounds):
            for name in rotated(list(ready), max(0, index)):
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                started = perf_counter()
                # It reads the loss at its end, so that a GPU has finished.
                ready[name].stage.train_epoch(0)
                if index >= 0:
                    times[name].append(perf_counter() - started)
    return times


def _peak_on_gpu(one: Prepared) -> int:
    """Return the peak memory of a step: its allocations, and the memory that the method always holds."""
    one.stage.optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    one.stage.train_epoch(0)
    grown = torch.cuda.max_memory_allocated() - before
    tensors = [*one.model.parameters(), *one.model.buffers()]
    for state in one.stage.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    tensors += [part for part in one.problem.batch if part.is_cuda]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return grown + sum(storages.values())


def _peaks_of_processes(timed: Timed, cells: Sequence[Cell], setting: Setting) -> dict[str, int]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return {
            cell.method: pool.submit(peak_of_process, timed.problem, cell, config).result()
            for cell in cells
            for config in [timed.config(cell, setting.scale, setting.batch, setting.more)]
        }


def peak_of_process(
    problem: Callable[[Config, Context], RandomProblem], cell: Cell, config: Config
) -> int:
    """Make two steps in this process, and return its peak resident memory in bytes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        one = prepare(cell, config, Path(folder), problem(config, context_on("cpu")))
        for _ in range(2):
            one.stage.train_epoch(0)
    one.close()
    return peak_of_this_process()


def parser(timed: Timed) -> argparse.ArgumentParser:
    """Return the command line."""
    benchmark = timed.benchmark
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark.name}.throughput",
        description=f"{timed.about}\n\n{__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--scale", default="paper", choices=list(benchmark.scales))
    found.add_argument("--methods", nargs="+", default=list(benchmark.methods), metavar="METHOD")
    found.add_argument(
        "--batch", type=int, help=f"pairs a step (CPU: {timed.cpu_batch}, GPU: the scale's)"
    )
    found.add_argument("--rounds", type=int, default=7)
    found.add_argument("--device", default="auto")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--without-memory", action="store_true", help="measure time only")
    for name, key in timed.settings.items():
        found.add_argument(f"--{name}", help=f"{key}, instead of the scale's")
    return found


def run(timed: Timed, arguments: Sequence[str] | None = None) -> int:
    """Measure by a command line; writes JSON and returns the exit code."""
    options = parser(timed).parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = default_device(options.device)
    declared = timed.benchmark.scales[options.scale]
    try:
        for name in options.methods:
            if name not in timed.benchmark.methods:
                where = f"python -m benchmarks ls {timed.benchmark.name}"
                raise unknown("method", name, timed.benchmark.methods, where)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    given = {key: getattr(options, name) for name, key in timed.settings.items()}
    more = {key: _value(text) for key, text in given.items() if text is not None}
    cells = [timed.cell(name, declared.backbones[0]) for name in options.methods]
    size = declared.choices["training.batch_size"].value
    batch = options.batch or (size if device.startswith("cuda") else timed.cpu_batch)
    setting = Setting(options.scale, device, batch, more)
    methods = measure(
        timed, cells, setting, rounds=options.rounds, with_memory=not options.without_memory
    )
    found = {
        "backbone": declared.backbones[0],
        "batch": batch,
        "settings": more,
        "rounds": options.rounds,
        "memory": "peak allocated" if device.startswith("cuda") else "peak of a process",
        "hardware": provenance.hardware(device),
        "methods": methods,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return DONE


def _value(text: str) -> Any:
    """Return a number where a text is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text
