"""The declared grid of one table, left-joined with the records of one scale.

Every declared cell is here, with what the store holds for it: a value only if its record is whole,
``ok`` and of the declared configuration; else the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.record import InvalidRecord, Record, primary_value
from benchmarks.harness.spec import DRAFT_SCALES, Benchmark, Scale, config_hash
from benchmarks.harness.store import State, Store
from reports.measurement import Measurement
from reports.refusals import without_refused

CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All declared cells of a benchmark on one backbone at one scale, by method and task.

    Records count if they are of the declared configuration, with ``overrides`` in the place of what is
    declared: another variant of the data, for instance.

    Attributes:
        results: Folder of the records, where they come from one.
        drafts: Whether records that are drafts count; None: at ``DRAFT_SCALES``.
    """

    benchmark: Benchmark
    scale: Scale
    backbone: str
    measurements: Mapping[tuple[str, str], tuple[Measurement, ...]]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    results: Path | None = None
    drafts: bool | None = None

    def of(self, benchmark: Benchmark, position: int) -> Grid:
        """The grid of another benchmark at the same scale, from the same records.

        Args:
            benchmark: It declares the scale.
            position: Of the backbone among those of the scale.
        """
        assert self.results is not None
        scale = benchmark.scales[self.scale.name]
        backbone = scale.backbones[position]
        return load_grid(
            benchmark, scale, backbone, self.results, self.overrides, drafts=self.drafts
        )

    def at(self, method: str, task: str) -> tuple[Measurement, ...]:
        """One measurement for each declared seed of a method on a task; none if undeclared."""
        return self.measurements.get((method, task), ())

    def values(self, method: str) -> dict[str, dict[int, float]]:
        """Task -> seed -> value of a method, with what there is."""
        return {
            task.name: {
                found.cell.seed: found.value
                for found in self.at(method, task.name)
                if found.value is not None
            }
            for task in self.benchmark.tasks
        }

    def holes(self, methods: Iterable[str]) -> list[Measurement]:
        """The declared cells of these methods that have no value."""
        return [
            found
            for method in methods
            for task in self.benchmark.tasks
            for found in self.at(method, task.name)
            if found.value is None
        ]

    @property
    def has_drafts(self) -> bool:
        """Whether any record that is taken is a draft."""
        return any(found.caveat for at in self.measurements.values() for found in at)

    def records(self, method: str) -> list[Record]:
        """The records that are used of a method, by task and seed."""
        return [
            found.record
            for task in self.benchmark.tasks
            for found in self.at(method, task.name)
            if found.record is not None
        ]


def load_grid(
    benchmark: Benchmark,
    scale: Scale,
    backbone: str,
    results: Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> Grid:
    """Look up every declared cell of one backbone in the store.

    Args:
        benchmark: The benchmark.
        scale: One of its scales.
        backbone: One of the scale's backbones.
        results: Folder of the records.
        overrides: Settings in the place of those that are declared, by dotted name.
        drafts: Whether records count that are drafts (``refusals.py``); None: at ``DRAFT_SCALES``.
    """
    overrides = overrides or {}
    store = Store(results, scale.name)
    found: dict[tuple[str, str], list[Measurement]] = {}
    for cell in benchmark.cells(scale):
        if cell.backbone == backbone:
            measurement = _look_up(benchmark, scale, store, cell, overrides)
            found.setdefault((cell.method, cell.task), []).append(measurement)
    return Grid(
        benchmark=benchmark,
        scale=scale,
        backbone=backbone,
        measurements=without_refused(
            {key: tuple(measurements) for key, measurements in found.items()},
            benchmark,
            drafts=scale.name in DRAFT_SCALES if drafts is None else drafts,
        ),
        overrides=overrides,
        results=results,
        drafts=drafts,
    )


def base_of(method: str) -> str | None:
    """The stage-1 method that a stage-2 method starts from; None for a stage-1 method."""
    name = parse_method(method)
    return name.base if name.suffix else None


def control_of(method: str) -> str | None:
    """The stage-2 control that a method with a penalty is compared with; None for all others."""
    name = parse_method(method)
    return f"{name.base}+{CONTROL}" if name.suffix and name.suffix != CONTROL else None


def _look_up(
    benchmark: Benchmark, scale: Scale, store: Store, cell: Cell, overrides: Mapping[str, Any]
) -> Measurement:
    expected = config_hash(benchmark.config(cell, scale, overrides))
    try:
        record = store.load(cell)
    except InvalidRecord as error:
        return _measurement(store, cell, State.INVALID, str(error))
    if record is None:
        return _measurement(store, cell, State.MISSING, None)
    if record["status"] != "ok":
        return _measurement(store, cell, State.NOT_OK, record["status"])
    if record["cell"]["scale"] != scale.name:
        reason = f"measured at scale {record['cell']['scale']}"
        return _measurement(store, cell, State.STALE, reason)
    version = record["cell"]["benchmark_version"]
    if version != benchmark.version:
        reason = f"benchmark version {version}, declared is {benchmark.version}"
        return _measurement(store, cell, State.STALE, reason)
    if record["config_hash"] != expected:
        reason = f"configuration {record['config_hash']}, declared is {expected}"
        return _measurement(store, cell, State.STALE, reason)
    value = primary_value(record)
    factor = benchmark.metrics[0].factor
    return _measurement(
        store, cell, State.FRESH, None, record, None if value is None else value * factor
    )


def _measurement(
    store: Store,
    cell: Cell,
    state: State,
    reason: str | None,
    record: Record | None = None,
    value: float | None = None,
) -> Measurement:
    path = store.path(cell).relative_to(store.root.parent).as_posix()
    return Measurement(cell=cell, state=state, reason=reason, path=path, record=record, value=value)
