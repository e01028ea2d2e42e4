"""Measures one cell of the cost benchmark: every variant of the step, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch

from benchmarks.cost.counting import Counts, count
from benchmarks.cost.spec import BASELINE, CONTROL, Variant, variants_of
from benchmarks.cost.step import OwnCost, TrainingStep
from benchmarks.cost.timing import (
    Summary,
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

Series = dict[str, list[float]]
"""Seconds by variant, one number a round."""

PROTOCOL = {
    "step": "gradients away, forward pass, loss, penalty, backward pass, AdamW",
    "step_ratio": "each round's time over that of the baseline in the same round",
    "own_share": "the penalty's forward and backward on captured z and b, over the median baseline step",
    "flops": "torch.utils.flop_counter: matrix products only, attention in its plain form",
    "aten_ops": "calls into ATen, attention in its plain form",
}


class CostRunner(Runner):
    """Measures what penalties cost."""

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Measure one cell."""
        started = perf_counter()
        with fast_algorithms():
            return Measurement(cell, config, context).run(started)


class NotFinite(Exception):
    """A parameter is not a number after the steps: not what training costs."""


class Measurement:
    """The rounds of one cell."""

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Build the step."""
        self.cell, self.config, self.plan = cell, config, config["measure"]
        self.context = context
        self.variants = variants_of(cell.method)
        self.step = TrainingStep(cell, config, context.device)
        self.done = 0
        self.left_out: dict[str, str] = {}

    def run(self, started: float) -> Outcome:
        """Count, take the times, and put the numbers together."""
        counts = self._count()
        variants = [variant for variant in self.variants if variant.name in counts]
        quick = [v for v in variants if v.form in ("none", "closed")]
        slow = [v for v in variants if v.name == BASELINE or v.form in ("literal", "maps")]
        closed = [v for v in variants if v.form == "closed"]
        own = {v.name: OwnCost(self.step, v) for v in closed}
        times, own_times = self._rounds(quick, self.plan["rounds"], own)
        slow_times, _ = self._rounds(slow, self.plan["literal_rounds"], {})
        self._check_finite()
        baseline = summary(times[BASELINE])["median"]
        assert baseline is not None
        metrics = _step_ratios(times) | _step_ratios(slow_times)
        for name, values in own_times.items():
            metrics[f"own_share/{name}"] = summary([value / baseline for value in values])
        return Outcome(
            metrics=metrics,
            curves={"rounds": times, "literal_rounds": slow_times, "own": own_times},
            counts=self._sizes(),
            cost=self._cost(counts, baseline, perf_counter() - started),
            protocol=PROTOCOL | {"left_out": self.left_out},
            weights=vars(self.step.weights),
            primary=None if closed else f"step_ratio/{CONTROL}",
        )

    def _count(self) -> dict[str, Counts]:
        """Count each variant; leave out those that the device has no memory for."""
        # The optimizer makes its state in the first step.
        self.step(None)
        counts = {}
        for variant in self.variants:
            try:
                counts[variant.name] = count(self.step, variant)
            except torch.OutOfMemoryError:
                if variant.form not in ("literal", "maps"):
                    raise
                self.left_out[variant.name] = "out of memory"
            self._tell()
        return counts

    def _rounds(
        self, variants: Sequence[Variant], rounds: int, own: dict[str, OwnCost]
    ) -> tuple[Series, Series]:
        """Take the times of the variants in turn, and of penalties on their own after each turn."""
        by_name = {variant.name: variant for variant in variants}
        times: Series = {name: [] for name in by_name}
        own_times: Series = {name: [] for name in own}
        for call in own.values():
            call()
        for index in range(rounds):
            with no_collection():
                for name in rotated(list(by_name), index):
                    times[name].append(self._step_seconds(by_name[name]))
                for name in rotated(list(own), index):
                    own_times[name] += self._own_seconds(own[name])
            self._tell()
        return times, own_times

    def _tell(self) -> None:
        """Report progress: one for each variant that is counted, one for each round."""
        self.done += 1
        total = len(self.variants) + self.plan["rounds"] + self.plan["literal_rounds"]
        self.context.on_epoch(self.cell, self.done, total)

    def _step_seconds(self, variant: Variant) -> float:
        with self.step.penalised(variant) as penalty:
            call: Callable[[], None] = lambda: self.step(penalty)  # noqa: E731
            return seconds(call, self.plan["steps_per_round"], self.step.device)

    def _own_seconds(self, call: Callable[[], None]) -> list[float]:
        device, in_a_row = self.step.device, self.plan["steps_per_round"]
        return [seconds(call, in_a_row, device) for _ in range(self.plan["own_repetitions"])]

    def _check_finite(self) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.step.trained):
            raise NotFinite("a trained parameter is not finite after the steps")

    def _sizes(self) -> dict[str, Any]:
        has_any = any(variant.form != "none" for variant in self.variants)
        layers = self.step.activations() if has_any else []
        return {
            "rounds": self.plan["rounds"],
            "literal_rounds": self.plan["literal_rounds"],
            "batch_size": len(self.step.images),
            "tokens": self.step.tokens,
            "matrices": sum(len(z) for _, z in layers),
        }

    def _cost(self, counts: dict[str, Counts], baseline: float, total: float) -> dict[str, Any]:
        head = {id(p) for p in self.step.model.get_submodule(self.step.head).parameters()}
        of_head = sum(p.numel() for p in self.step.trained if id(p) in head)
        on_gpu = self.step.device.type == "cuda"
        return {
            "total_seconds": total,
            "baseline_step_seconds": baseline,
            "by_variant": {name: found.as_dict() for name, found in counts.items()},
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
            "peak_process_memory_bytes": peak_of_this_process(),
            "trainable_params": sum(p.numel() for p in self.step.trained) - of_head,
            "head_params": of_head,
            "total_params": sum(p.numel() for p in self.step.model.parameters()),
        }


def _step_ratios(times: Series) -> dict[str, Summary]:
    return {
        f"step_ratio/{name}": summary(ratios(values, times[BASELINE]))
        for name, values in times.items()
        if name != BASELINE
    }


RUNNER = CostRunner()
