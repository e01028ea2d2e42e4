"""Seconds and memory of a full-size training step of each method, all methods taking turns.

    python -m benchmarks.flickr30k.throughput --device cuda
    python -m benchmarks.flickr30k.throughput --device cpu --batch 8 --rounds 3

BERT-base with random weights, 36 regions of 2,048; the batch is on the device and the same for all. Memory on
a GPU: the peak that torch allocates in a step, with what the method keeps between steps and without what
belongs to the other methods. On a CPU: the peak resident memory of a process that makes two steps of this
method and nothing else.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks.cost.timing import fast_algorithms, no_collection, rotated, summary
from benchmarks.flickr30k import bert
from benchmarks.flickr30k.model import VSE
from benchmarks.flickr30k.pace import Prepared, RandomPairs, prepare
from benchmarks.flickr30k.spec import FLICKR30K, METHODS
from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import DONE, USAGE, UsageError, unknown
from benchmarks.harness.execute import default_device
from benchmarks.harness.spec import Config

CPU_BATCH = 8


class SharedText(RandomPairs):
    """Random pairs whose models share the storage of the BERT that they freeze."""

    def __init__(self, config: Config, context: Context, text: nn.Module) -> None:
        """Draw the batch; ``text`` is the BERT."""
        super().__init__(config, context)
        self.text = text

    def build(self) -> nn.Module:
        """Return a model whose BERT is a view of the shared one."""
        model = super().build()
        memo: dict[int, Any] = {id(p): nn.Parameter(p.data) for p in self.text.parameters()}
        assert isinstance(model, VSE)
        model.bert = copy.deepcopy(self.text, memo)
        return model


def config_of(cell: Cell, scale: str, batch: int) -> Config:
    """Return a cell's configuration with random weights and another batch."""
    declared = FLICKR30K.scales[scale]
    overrides = {
        "backbone.weights": "random",
        "stage1.batch_size": batch,
        "stage2.batch_size": batch,
    }
    return FLICKR30K.config(cell, declared, overrides)


def context_on(device: str) -> Context:
    """Return a context for steps that read and write nothing."""
    return Context(data=Path(), work=Path(), device=device, on_epoch=lambda *_: None, weights=None)


def measure(
    cells: Sequence[Cell],
    scale: str,
    *,
    device: str,
    batch: int,
    rounds: int,
    with_memory: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return seconds of a step and memory, by method.

    Args:
        cells: One cell for each method.
        scale: The scale whose configuration they have.
        device: ``cpu`` or ``cuda``.
        batch: Pairs of a step.
        rounds: Rounds that count; one before them warms up.
        with_memory: Whether to measure memory too, which takes a process a method on a CPU.
    """
    text = bert.empty(
        cells[0].backbone, config_of(cells[0], scale, batch)["backbone"]["dropout"]
    ).to(device)
    ready: dict[str, Prepared] = {}
    with tempfile.TemporaryDirectory() as folder, fast_algorithms():
        for cell in cells:
            config = config_of(cell, scale, batch)
            problem = SharedText(config, context_on(device), text)
            ready[cell.method] = prepare(cell, config, problem.context, Path(folder), problem)
            for parameter in ready[cell.method].stage.trained:  # what is trained is not shared
                parameter.data = parameter.data.clone()
        seconds = _in_turns(ready, device, rounds)
        memory: dict[str, int] = {}
        if with_memory and device.startswith("cuda"):
            memory = {name: _peak_on_gpu(one) for name, one in ready.items()}
        elif with_memory:
            memory = _peaks_of_processes(cells, scale, batch)
    for one in ready.values():
        one.close()
    return {
        name: {"seconds": summary(seconds[name]), "memory_bytes": memory.get(name)}
        for name in ready
    }


def _in_turns(ready: Mapping[str, Prepared], device: str, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ready}
    with no_collection():
        for index in range(-1, rounds):
            for name in rotated(list(ready), max(0, index)):
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                started = perf_counter()
                ready[name].stage.train_epoch(
                    0
                )  # reads the loss at its end, so that a GPU has finished
                if index >= 0:
                    times[name].append(perf_counter() - started)
    return times


def _peak_on_gpu(one: Prepared) -> int:
    """Return the peak of a step: what it allocates, and what the method holds all the time."""
    one.stage.optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    one.stage.train_epoch(0)
    grown = torch.cuda.max_memory_allocated() - before
    tensors = [*one.model.parameters(), *one.model.buffers()]
    for state in one.stage.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    tensors += [one.problem.batch.regions, one.problem.batch.pieces]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return grown + sum(storages.values())


def _peaks_of_processes(cells: Sequence[Cell], scale: str, batch: int) -> dict[str, int]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return {
            cell.method: pool.submit(peak_of_process, cell, scale, batch).result() for cell in cells
        }


def peak_of_process(cell: Cell, scale: str, batch: int) -> int:
    """Make two steps in this process, and return its peak resident memory in bytes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        one = prepare(cell, config_of(cell, scale, batch), context_on("cpu"), Path(folder))
        for _ in range(2):
            one.stage.train_epoch(0)
    one.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flickr30k.throughput", description=__doc__
    )
    parser.add_argument("--scale", default="paper", choices=list(FLICKR30K.scales))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument(
        "--batch", type=int, help=f"pairs a step (CPU: {CPU_BATCH}, GPU: the scale's)"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-memory", action="store_true", help="time alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = default_device(options.device)
    backbone = FLICKR30K.scales[options.scale].backbones[0]
    try:
        for name in options.methods:
            if name not in METHODS:
                raise unknown("method", name, METHODS, "python -m benchmarks ls flickr30k")
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    cells = [Cell(FLICKR30K.name, backbone, "f30k", name, 0) for name in options.methods]
    size = FLICKR30K.scales[options.scale].choices["training.batch_size"].value
    batch = options.batch or (size if device.startswith("cuda") else CPU_BATCH)
    methods = measure(
        cells,
        options.scale,
        device=device,
        batch=batch,
        rounds=options.rounds,
        with_memory=not options.without_memory,
    )
    found = {
        "backbone": backbone,
        "batch": batch,
        "rounds": options.rounds,
        "memory": "peak allocated" if device.startswith("cuda") else "peak of a process",
        "hardware": provenance.hardware(device),
        "methods": methods,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
