"""What records hold, as rows of the tidy frame: one for each number of a cell, and holes as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness.cell import parse_method
from benchmarks.harness.record import Record
from benchmarks.harness.spec import Benchmark, Scale
from reports.comparable import Measurement, machine

KEYS = (
    *("benchmark", "scale", "backbone", "task", "group", "method", "base", "suffix", "seed", "device"),
    *("variant", "quantity", "rule", "declared"),
)  # fmt: skip
COLUMNS = (
    *(*KEYS, "value", "low", "high", "state", "reason", "caveat"),
    *("record", "sha256", "commit", "dirty"),
)
"""Of the frame (reports/README.md explains them)."""

Line = tuple[str, str, str, float, float, float]
"""Variant, quantity, rule, value, low, high."""

CATEGORIES = ("benchmark", "scale", "backbone", "task", "group", "method", "base", "suffix")
NAN = float("nan")


def to_frame(
    benchmark: Benchmark, scale: Scale, found: Sequence[Measurement], *, declared: bool = True
) -> pd.DataFrame:
    """The rows of some cells, in their order."""
    groups = {task.name: task.group for task in benchmark.tasks}
    names = [parse_method(one.cell.method) for one in found]
    records = [one.record or {} for one in found]
    cells = {
        "benchmark": [benchmark.name] * len(found),
        "scale": [scale.name] * len(found),
        "backbone": [one.cell.backbone for one in found],
        "task": [one.cell.task for one in found],
        "group": [groups.get(one.cell.task, "") for one in found],
        "method": [one.cell.method for one in found],
        "base": [name.base for name in names],
        "suffix": [name.suffix or "" for name in names],
        "seed": [one.cell.seed for one in found],
        "device": [machine(record) if record else "" for record in records],
        "declared": [declared] * len(found),
        "state": [one.state.value for one in found],
        "reason": [one.reason or "" for one in found],
        "caveat": [one.caveat or "" for one in found],
        "record": [one.path for one in found],
        "sha256": [record.get("record_sha256", "") for record in records],
        "commit": [record.get("code", {}).get("commit") or "" for record in records],
        "dirty": [record.get("code", {}).get("dirty") for record in records],
    }
    index: list[int] = []
    lines: list[Line] = []
    for position, one in enumerate(found):
        of = list(_lines(one.record, benchmark) if one.record else _hole(benchmark))
        index += [position] * len(of)
        lines += of
    columns = dict(zip(("variant", "quantity", "rule"), zip(*lines, strict=True), strict=False))
    values = np.array([line[3:] for line in lines], dtype=float).reshape(-1, 3)
    # Text as Python's own: pandas' text takes several times as long to make and to read.
    text = {name: np.array(of, dtype=object)[index] for name, of in cells.items()} | columns
    frame = {name: pd.Series(text[name], dtype=object) for name in COLUMNS if name in text}
    frame |= {name: values[:, at] for at, name in enumerate(("value", "low", "high"))}
    return pd.DataFrame(frame, columns=list(COLUMNS)).astype({"seed": int, "declared": bool})


def _hole(benchmark: Benchmark) -> Iterator[Line]:
    for metric in benchmark.metrics[:1] if benchmark.is_timed else benchmark.metrics:
        quantity, _, variant = metric.name.partition("/")
        for rule in benchmark.selections[:1] if benchmark.is_timed else benchmark.selections:
            yield variant, quantity, rule, NAN, NAN, NAN


def _lines(record: Record, benchmark: Benchmark) -> Iterator[Line]:
    """Every number of a record that tables, figures and notebooks are made of."""
    if benchmark.is_timed:
        for name, of in record["metrics"].items():
            quantity, _, variant = name.partition("/")
            bounds = (of.get(rule) for rule in ("median", "lower_quartile", "upper_quartile"))
            yield variant, quantity, "median", *map(_number, bounds)
        for name, value in record["counts"].items():
            yield "", name, "", _number(value), NAN, NAN
    else:
        for metric in benchmark.metrics:
            for rule, value in record["metrics"].get(metric.name, {}).items():
                known = NAN if value is None else metric.factor * value
                yield "", metric.name, rule, known, NAN, NAN
    yield from _costs(record["cost"])
    for when, at in (record["redundancy"] or {}).items():
        if isinstance(at, dict) and "mean" in at:
            yield "", f"redundancy_{when}", "", _number(at["mean"]), NAN, NAN


def _costs(cost: Mapping[str, Any]) -> Iterator[Line]:
    """Costs: of the cell, or of each of its variants, methods, ways of training."""
    for name, value in cost.items():
        if not isinstance(value, dict):
            yield "", name, "", _number(value), NAN, NAN
        elif name.startswith("by_"):
            for variant, of in value.items():
                for _, quantity, _, number, _, _ in _costs(_flat(of)):
                    yield variant, quantity, "", number, NAN, NAN
        else:
            for variant, number in value.items():
                yield variant, name, "", _number(number), NAN, NAN


def _flat(of: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in of.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": number for inner, number in value.items()}
        else:
            flat[name] = value
    return flat


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else NAN
