"""Comparable times: variants take turns in many rounds, each relative to the baseline of its round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from time import perf_counter

import torch

Summary = dict[str, float | None]


def seconds(call: Callable[[], object], count: int, device: torch.device) -> float:
    """Return the mean seconds of ``count`` calls in a row.

    On a GPU by CUDA events, after one call that is not timed and with nothing left in the queue.
    """
    if device.type != "cuda":
        started = perf_counter()
        for _ in range(count):
            call()
        return (perf_counter() - started) / count
    call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / count


def rotated(names: Sequence[str], index: int) -> list[str]:
    """The names from the ``index``-th on, then those before it: no variant always comes first."""
    start = index % max(1, len(names))
    return [*names[start:], *names[:start]]


def ratios(measured: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Divide by the baseline of the same round."""
    return [value / base for value, base in zip(measured, baseline, strict=True)]


def summary(values: Sequence[float]) -> Summary:
    """Return median and quartiles; a single value has no quartiles."""
    if len(values) < 2:
        return {"median": median(values), "lower_quartile": None, "upper_quartile": None}
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "lower_quartile": lower, "upper_quartile": upper}


@contextmanager
def no_collection() -> Iterator[None]:
    """Let the garbage collector wait while inside the block, as `timeit` does."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def fast_algorithms() -> Iterator[None]:
    """Let torch choose its algorithms, as people's training does, while inside the block.

    Runs of cells ask for deterministic ones, which also fill every new tensor: a cost of its own.
    """
    was_on = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warn_only)
