"""Claims about time and memory, judged from the cost benchmark at the published size, on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record
from benchmarks.harness.registry import BENCHMARKS
from reports.claims.judging import Judged, Verdict
from reports.grid import Grid, load_grid

SCALE = "paper"
FORM = "closed"
PENALTIES = ("euclidean", "cosine", "nonlinear", "linear")
GIB = 2**30


def judge(results: Path, quantity: str, most: float | None) -> Judged:
    """Judge a claim on time, memory, or which penalty is the cheapest.

    Args:
        results: Folder of the records.
        quantity: ``time`` (step over the step without a penalty), ``memory`` (GB more) or ``cheapest``.
        most: The limit of the first two.
    """
    cost = BENCHMARKS["cost"]
    scale = cost.scales[SCALE]
    grid = load_grid(cost, scale, scale.backbones[0], results)
    records = [record for method in cost.methods for record in grid.records(method)]
    on_gpu = [record for record in records if record["hardware"]["gpu"]]
    numbers = tuple(_line(record, quantity) for record in on_gpu or records)
    if not on_gpu:
        note = ("no GPU record; the paper's is of a GPU",) if records else ()
        return Judged(verdict=Verdict.NOT_RUN, numbers=(*numbers, *note), missing=_holes(grid))
    holds = [_holds(record, quantity, most) for record in on_gpu]
    verdict = Verdict.SUPPORTED if all(holds) else Verdict.CONTRADICTED
    return Judged(verdict=verdict, numbers=numbers, n_pairs=len(on_gpu), missing={})


def _holds(record: Record, quantity: str, most: float | None) -> bool:
    found = _by_penalty(record, quantity)
    if quantity == "cheapest":
        return min(found, key=lambda name: found[name]) == "euclidean"
    return most is not None and max(found.values()) <= most


def _line(record: Record, quantity: str) -> str:
    machine = record["hardware"]["gpu"] or record["hardware"]["cpu"]
    unit = "GB more" if quantity == "memory" else "% of the step without a penalty"
    shown = [
        f"{name} {value:.3f}" if quantity == "memory" else f"{name} {100 * value:.2f}"
        for name, value in _by_penalty(record, quantity).items()
    ]
    what = "own time of the closed form" if quantity == "cheapest" else "closed form"
    cell = record["cell"]
    return f"{cell['method']}, {cell['task']} on {machine}, {what}, {unit}: {', '.join(shown)}"


def _by_penalty(record: Record, quantity: str) -> dict[str, float]:
    found: dict[str, Any] = {}
    for name in PENALTIES:
        if quantity == "memory":
            counts = record["cost"]["by_variant"]
            if f"{FORM}-{name}" in counts:
                bytes_ = (
                    counts[key]["peak_memory_bytes"] for key in (f"{FORM}-{name}", "baseline")
                )
                found[name] = (next(bytes_) - next(bytes_)) / GIB
            continue
        kind = "own_share" if quantity == "cheapest" else "step_ratio"
        ratio = record["metrics"].get(f"{kind}/{FORM}-{name}")
        if ratio and ratio["median"] is not None:
            found[name] = ratio["median"]
    return found


def _holes(grid: Grid) -> dict[tuple[str, str], tuple[int, int]]:
    missing = {}
    methods: Sequence[str] = grid.benchmark.methods
    for method in methods:
        cells = [found for task in grid.benchmark.tasks for found in grid.at(method, task.name)]
        if holes := sum(found.value is None for found in cells):
            missing[grid.backbone, method] = (holes, len(cells))
    return missing
