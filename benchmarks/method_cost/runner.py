"""Measures the training steps of all methods in interleaved rounds."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.cost.counting import peak_memory, resident_bytes
from benchmarks.cost.timing import (
    fast_algorithms,
    no_collection,
    ratios,
    rotated,
    seconds,
    summary,
)
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.memory import peak_of_this_process
from benchmarks.harness.record import Outcome
from benchmarks.harness.runner import Runner
from benchmarks.harness.spec import Config
from benchmarks.method_cost.spec import BASELINE, CONTROL
from benchmarks.method_cost.step import Bench, MethodStep

PROTOCOL = {
    "step": "gradients away, forward pass, loss, the method's own term and hooks, backward pass, AdamW",
    "step_ratio": "each round's time over that of lora-r8 in the same round",
    "peak_memory_bytes": "live tensors: model, optimizer, batch, and what a step allocates beyond them",
    "flops": "torch.utils.flop_counter: matrix products only, attention in its plain form",
}


class MethodCostRunner(Runner):
    """Measures what methods cost."""

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Measure one cell."""
        started = perf_counter()
        with fast_algorithms():
            bench = Bench(cell, config, context.device)
            done, total = 0, len(config["methods"]) + config["measure"]["rounds"]
            steps: dict[str, MethodStep] = {}
            counts: dict[str, dict[str, int]] = {}
            for name in config["methods"]:
                steps[name] = MethodStep(bench, name)
                counts[name] = _counts(steps[name])
                context.on_epoch(cell, done := done + 1, total)
            times: dict[str, list[float]] = {name: [] for name in (*steps, CONTROL)}
            for index in range(config["measure"]["rounds"]):
                with no_collection():
                    for name in rotated(list(times), index):
                        step = steps[BASELINE if name == CONTROL else name]
                        count = config["measure"]["steps_per_round"]
                        times[name].append(seconds(step, count, bench.device))
                        step.forget_gradients()
                context.on_epoch(cell, done := done + 1, total)
        baseline = summary(times[BASELINE])["median"]
        return Outcome(
            metrics={
                f"step_ratio/{name}": summary(ratios(values, times[BASELINE]))
                for name, values in times.items()
                if name != BASELINE
            },
            curves={"rounds": times},
            counts={
                "rounds": config["measure"]["rounds"],
                "batch_size": len(bench.images),
                "methods": len(steps),
            },
            cost=_cost(steps, counts, bench)
            | {
                "total_seconds": perf_counter() - started,
                "baseline_step_seconds": baseline,
            },
            protocol=PROTOCOL,
            weights=vars(bench.weights),
        )


def _counts(step: MethodStep) -> dict[str, int]:
    """Count what a step of one method takes, the optimizer having its state already."""
    step()
    with sdpa_kernel(SDPBackend.MATH):
        forward, both = step.flops()
    without, head = step.trainable()
    resident = resident_bytes(step)
    return {
        "forward_flops": forward,
        "step_flops": both,
        "resident_bytes": resident,
        "peak_memory_bytes": _peak(step),
        "trainable_params": without,
        "head_params": head,
    }


def _peak(step: MethodStep) -> int:
    """Return the peak of live tensors in a step, without those of the other methods."""
    step.forget_gradients()
    others = 0
    if step.device.type == "cuda":
        others = torch.cuda.memory_allocated(step.device) - resident_bytes(step)
    return peak_memory(step, None) - others


def _cost(
    steps: dict[str, MethodStep], counts: dict[str, dict[str, int]], bench: Bench
) -> dict[str, Any]:
    on_gpu = bench.device.type == "cuda"
    without, head = steps[BASELINE].trainable()
    return {
        "by_method": counts,
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "peak_process_memory_bytes": peak_of_this_process(),
        "trainable_params": without,
        "head_params": head,
        "total_params": sum(p.numel() for p in steps[BASELINE].model.parameters()),
    }


RUNNER = MethodCostRunner()
