"""The numbers of the table of costs: every declared cell and variant, holes as holes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cost.spec import BASELINE, PAPER_METHOD, Variant, variants_of
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Table, Task
from reports.grid import Grid, control_of
from reports.measurement import Measurement
from reports.published.costs import PublishedCosts, load_costs
from reports.tables import Row, tabulate_grid

PAPER_BATCH = 32
"""The batch size that the paper's FLOPs are of."""

ACCURACIES = "vtab1k"
"""The benchmark that the accuracies are of."""


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """Median and quartiles; a single value has no quartiles."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class VariantRow:
    """One variant of the training step. All ratios are fractions of the baseline; None is a hole.

    Attributes:
        variant: The variant.
        left_out: Why it was not measured, where the device was not up to it.
        step_ratio: Time of a step over the baseline's; None for the baseline itself.
        own_share: Time of the penalty alone over the baseline's step; closed forms only.
        memory_ratio: Peak bytes over the baseline's.
        flops_ratio: FLOPs of forward and backward over the baseline's.
        forward_tera_macs: Multiply-adds of the forward pass, scaled to the paper's batch.
        extra_ops: ATen calls beyond the baseline's.
        printed: The paper's cells by column; empty where it has no such row.
    """

    variant: Variant
    left_out: str | None
    step_ratio: Quartiles | None
    own_share: Quartiles | None
    memory_ratio: float | None
    flops_ratio: float | None
    forward_tera_macs: float | None
    extra_ops: int | None
    printed: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """One cell of the benchmark: a method on one device at one precision."""

    method: str
    task: Task
    measurement: Measurement
    rows: tuple[VariantRow, ...]

    @property
    def record(self) -> dict[str, Any] | None:
        """The record, if it is used."""
        return self.measurement.record


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """The table at one scale.

    Attributes:
        accuracies: By the methods of the paper's table, what VTAB-1K comes to at the same scale.
        accuracy_grid: The cells behind them.
    """

    table: Table
    grid: Grid
    methods: tuple[MethodCost, ...]
    paper: PublishedCosts
    accuracies: Mapping[str, Row]
    accuracy_grid: Grid

    @property
    def accuracy_seeds(self) -> tuple[int, ...]:
        """The seeds that are declared of them."""
        return self.accuracy_grid.scale.seeds

    @property
    def behind_accuracies(self) -> list[Measurement]:
        """What there is for the cells behind them, and those that they are compared with."""
        methods = {*self.accuracies, *map(control_of, self.accuracies)}
        return [
            found
            for (method, _), measurements in self.accuracy_grid.measurements.items()
            if method in methods
            for found in measurements
        ]

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells without a record that can be used."""
        return self.grid.holes(self.grid.benchmark.methods)


def tabulate_costs(table: Table, grid: Grid) -> CostTable:
    """Compute the table from the declared grid."""
    paper = load_costs(table.name)
    methods = tuple(
        _method(method, task, measurement, paper)
        for task in grid.benchmark.tasks
        for method in grid.benchmark.methods
        for measurement in grid.at(method, task.name)
    )
    beside = grid.of(BENCHMARKS[ACCURACIES], table.backbone)
    return CostTable(
        table=table,
        grid=grid,
        methods=methods,
        paper=paper,
        accuracies={row.method: row for row in tabulate_grid(table, beside, has_tasks=False).rows},
        accuracy_grid=beside,
    )


def _method(method: str, task: Task, measurement: Measurement, paper: PublishedCosts) -> MethodCost:
    rows = tuple(
        _row(variant, measurement.record, _printed(method, variant, paper))
        for variant in variants_of(method)
    )
    return MethodCost(method=method, task=task, measurement=measurement, rows=rows)


def _printed(method: str, variant: Variant, paper: PublishedCosts) -> dict[str, str]:
    """The paper's cells for a method with a penalty, whatever the form: it has one of each."""
    row = PAPER_METHOD.get(method)
    if row is None or (variant.form == "none" and variant.name != BASELINE):
        return {}
    return paper.cells[f"{row}+{variant.penalty}" if variant.penalty else row]


def _row(variant: Variant, record: dict[str, Any] | None, printed: dict[str, str]) -> VariantRow:
    metrics = record["metrics"] if record else {}
    counts = record["cost"]["by_variant"] if record else {}
    here, base = counts.get(variant.name), counts.get(BASELINE)
    batch = record["counts"]["batch_size"] if record else 0

    def over_base(name: str) -> float | None:
        return here[name] / base[name] if here and base else None

    return VariantRow(
        variant=variant,
        left_out=record["protocol"]["left_out"].get(variant.name) if record else None,
        step_ratio=_quartiles(metrics.get(f"step_ratio/{variant.name}")),
        own_share=_quartiles(metrics.get(f"own_share/{variant.name}")),
        memory_ratio=over_base("peak_memory_bytes"),
        flops_ratio=over_base("step_flops"),
        forward_tera_macs=here["forward_flops"] / 2e12 * PAPER_BATCH / batch if here else None,
        extra_ops=here["aten_ops"] - base["aten_ops"] if here and base else None,
        printed=printed,
    )


def _quartiles(found: dict[str, float | None] | None) -> Quartiles | None:
    if found is None or found["median"] is None:
        return None
    return Quartiles(
        median=found["median"], low=found["lower_quartile"], high=found["upper_quartile"]
    )
