"""Training step times of methods from measured speeds and costs of a device; nothing runs here.

A LoRA cell has the seconds of its way of training in a measurement of speed. Another method has these times
the ratio of its step to LoRA's in ``method_cost``, a second stage these times the ratio that ``cost`` has for
its penalty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cost.spec import COST
from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.methods import family_of
from benchmarks.harness.record import InvalidRecord, Record
from benchmarks.harness.spec import Benchmark, Config
from benchmarks.harness.store import Store
from benchmarks.method_cost.spec import BASELINE, METHOD_COST
from benchmarks.speed.spec import SPEED
from benchmarks.training.pace import Pace

NAMED = Path(__file__).with_name("measured")
"""Files of the program, measured on other machines."""

EVALUATED_AS = {"tf32": "fp32"}
"""Precisions whose evaluation is not measured, with the one that is."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A measurement of speed.

    Attributes:
        name: The record or file.
        backbone: What was trained.
        batch_size: Images of a cell's step.
        ways: Way -> its numbers.
        evaluated: Precision -> images a second.
    """

    name: str
    backbone: str
    batch_size: int
    ways: Mapping[str, Any]
    evaluated: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured on one kind of device: speeds, and records of ``method_cost`` and ``cost``."""

    speeds: tuple[Speed, ...]
    methods: tuple[tuple[Cell, Record], ...]
    penalties: tuple[tuple[Cell, Record], ...]


def measured_on(results: Path, kind: str) -> Measured:
    """Read the measurements.

    Args:
        results: Root of the records.
        kind: Name of the GPU, or of the processor for cells that are measured on one.
    """
    speeds = [
        Speed(
            name=str(cell),
            backbone=cell.backbone,
            batch_size=record["counts"]["batch_size"],
            ways=record["cost"]["by_way"],
            evaluated=record["cost"]["evaluated_per_second"],
        )
        for cell, record in _records(SPEED, results, kind)
    ]
    for path in sorted(NAMED.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if _kind(found["hardware"]) == kind:
            speeds.append(
                Speed(
                    name=f"benchmarks/speed/measured/{path.name}",
                    backbone=found["size"]["backbone"],
                    batch_size=found["size"]["batch_size"],
                    ways=found["ways"],
                    evaluated=found["evaluated_per_second"],
                )
            )
    return Measured(
        speeds=tuple(speeds),
        methods=tuple(_records(METHOD_COST, results, kind)),
        penalties=tuple(_records(COST, results, kind)),
    )


def pace_of(
    measured: Measured, cell: Cell, config: Config, side_by_side: int
) -> tuple[Pace, tuple[str, ...]] | None:
    """Return the step time of a cell and its sources; None if nothing was measured.

    The search of a method that has one is left out.

    Args:
        measured: What was measured.
        cell: The cell.
        config: Its configuration.
        side_by_side: How many cells share its forward pass.
    """
    base, suffix, _ = parse_method(cell.method)
    section = config["stage2" if "stage2" in config else "stage1"]
    at = (cell.backbone, section["batch_size"])
    precision: str = config["training"]["precision"]
    speed = next((one for one in measured.speeds if (one.backbone, one.batch_size) == at), None)
    costs = _matching(measured.methods, at, precision)
    found = _trainer(speed, precision, side_by_side) or _lora(costs)
    if found is None:
        return None
    step, sources = found
    if family_of(base) != family_of(BASELINE):
        ratio = costs[1]["metrics"].get(f"step_ratio/{base}") if costs else None
        if ratio is None or costs is None:
            return None
        step *= ratio["median"]
        sources = {**sources, str(costs[0]): None}
    if suffix not in (None, "control"):
        added, where = _penalty(measured.penalties, at, precision, base, suffix or "")
        step, sources = step * added, {**sources, **dict.fromkeys(where)}
    evaluated = speed and speed.evaluated.get(EVALUATED_AS.get(precision, precision))
    if evaluated:
        image = 1 / evaluated
    elif costs is not None:
        image = _forward_seconds(costs[1], at[1])
    else:
        return None
    return Pace(step, image, 0), tuple(sources)


def _trainer(
    speed: Speed | None, precision: str, side_by_side: int
) -> tuple[float, dict[str, None]] | None:
    """Return the seconds of a LoRA cell's step in a training configuration, as a cell's share."""
    if speed is None:
        return None
    beside = "beside-" if precision == "bf16" else f"{precision}-beside-"
    sizes = {name: name.removeprefix(beside) for name in speed.ways if name.startswith(beside)}
    counts = {int(rest): name for name, rest in sizes.items() if rest.isdecimal()}
    known = [count for count in counts if count <= side_by_side]
    name = counts[max(known)] if known else precision
    way = speed.ways.get(name)
    if way is None:
        return None
    return way["step_seconds"] / way["cells_at_once"], {f"{speed.name} ({name})": None}


def _lora(costs: tuple[Cell, Record] | None) -> tuple[float, dict[str, None]] | None:
    if costs is None:
        return None
    return costs[1]["cost"]["baseline_step_seconds"], {str(costs[0]): None}


def _penalty(
    penalties: tuple[tuple[Cell, Record], ...],
    at: tuple[str, int],
    precision: str,
    base: str,
    suffix: str,
) -> tuple[float, tuple[str, ...]]:
    """Return how much longer a step is with a penalty, by the cell whose method is nearest.

    Where none was measured: no longer.
    """
    found = [
        pair for pair in penalties if _is_at(pair, at, precision) and suffix_of(pair[1], suffix)
    ]
    near = sorted(found, key=lambda pair: (pair[0].method != base, not _alike(pair[0], base)))
    if not near:
        return 1.0, ()
    cell, record = near[0]
    return suffix_of(record, suffix) or 1.0, (str(cell),)


def suffix_of(record: Record, suffix: str) -> float | None:
    """Return the ratio of a step with a closed penalty to one without, in a record of ``cost``."""
    ratio = record["metrics"].get(f"step_ratio/closed-{suffix}")
    return None if ratio is None else float(ratio["median"])


def _alike(cell: Cell, base: str) -> bool:
    return family_of(cell.method) == family_of(base).removesuffix("-plus")


def _forward_seconds(record: Record, batch_size: int) -> float:
    """Return seconds of an image's forward pass, by its share of a step's FLOPs."""
    flops = record["cost"]["by_method"][BASELINE]
    step: float = record["cost"]["baseline_step_seconds"]
    return step * float(flops["forward_flops"]) / float(flops["step_flops"]) / batch_size


def _matching(
    records: tuple[tuple[Cell, Record], ...], at: tuple[str, int], precision: str
) -> tuple[Cell, Record] | None:
    return next((pair for pair in records if _is_at(pair, at, precision)), None)


def _is_at(pair: tuple[Cell, Record], at: tuple[str, int], precision: str) -> bool:
    cell, record = pair
    same = (cell.backbone, record["counts"]["batch_size"]) == at
    return same and cell.task.rpartition("-")[2] == precision


def _records(benchmark: Benchmark, results: Path, kind: str) -> Iterator[tuple[Cell, Record]]:
    for scale in benchmark.scales.values():
        store = Store(results, scale.name)
        for cell in benchmark.cells(scale):
            with suppress(InvalidRecord):
                record = store.load(cell)
                if record and record["status"] == "ok" and _kind(record["hardware"]) == kind:
                    yield cell, record


def _kind(hardware: Mapping[str, Any]) -> str:
    return str(hardware["gpu"] or hardware["cpu"])
