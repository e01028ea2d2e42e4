"""Table 6 as the paper has it: a row a method, memory, FLOPs, time, and the accuracy from other records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.cost.spec import BASELINE
from benchmarks.harness.cell import parse_method
from benchmarks.harness.record import Record
from benchmarks.harness.spec import Task
from reports.blocks import difference_entry, spread_entry
from reports.cost.table import PAPER_BATCH, CostTable
from reports.page import HOLE, NOTHING, Block, Column, Entry
from reports.tables import Row

COLUMNS = (
    Column("memory\nGiB"),
    Column("FLOPs\nT"),
    Column("time %\nclosed"),
    Column("time %\nprinted"),
    Column("memory GiB\nprinted"),
    Column("accuracy\n%"),
    Column("Δ base\n[95 %]"),
    Column("Δ control\n[95 %]"),
    Column("paper\nGB"),
    Column("paper\nFLOPs"),
    Column("paper\ntime"),
    Column("paper\naccuracy"),
)

LEGEND = (
    "As the paper has it: memory, peak of live tensors; FLOPs, multiply-adds of the forward pass at batch "
    f"{PAPER_BATCH}; time of a step over that of the method without a penalty, median. closed: resora's, of "
    "which memory and FLOPs are; printed: the equation taken literally. Accuracy: VTAB-1K at this "
    "scale, mean of all tasks, and its change over the method and over stage 2 without a penalty."
)


def blocks(data: CostTable) -> Iterator[Block]:
    """Yield a block for each device and precision of which there is a record."""
    for task in data.grid.benchmark.tasks:
        records = {
            found.method: found.record
            for found in data.methods
            if found.task == task and found.record is not None
        }
        if any(parse_method(method).base in records for method in data.table.rows):
            yield _block(data, task, records)


def _block(data: CostTable, task: Task, records: Mapping[str, Record]) -> Block:
    machines = {
        record["hardware"]["gpu"] or record["hardware"]["cpu"] for record in records.values()
    }
    rows = tuple(
        (
            method,
            (
                *_costs(method, records),
                *_accuracy(data.accuracies[method], len(data.accuracy_seeds)),
                *(
                    Entry(data.paper.cells[method][column])
                    for column in ("memory_gb", "flops_t", "time", "accuracy")
                ),
            ),
        )
        for method in data.table.rows
    )
    return Block(
        title=f"As the paper's table · {task.label} · {', '.join(sorted(machines))}",
        corner="method",
        columns=COLUMNS,
        rows=rows,
    )


def _costs(method: str, records: Mapping[str, Record]) -> tuple[Entry, ...]:
    base, suffix, _ = parse_method(method)
    record = records.get(base)
    if record is None:
        return (Entry(HOLE),) * 5
    counts, batch = record["cost"]["by_variant"], record["counts"]["batch_size"]
    here = counts.get(f"closed-{suffix}" if suffix else BASELINE)
    if here is None:
        return (Entry(HOLE),) * 5
    shared = (
        Entry(_gib(here)),
        Entry(f"{here['forward_flops'] / 2e12 * PAPER_BATCH / batch:.3g}"),
    )
    if not suffix:
        time = "-" if base == "full" else "100"
        return (*shared, Entry(time), Entry(NOTHING), Entry(NOTHING))
    printed = counts.get(f"literal-{suffix}")
    return (
        *shared,
        Entry(_time(record, f"closed-{suffix}")),
        Entry(_time(record, f"literal-{suffix}")),
        Entry(_gib(printed) if printed else HOLE),
    )


def _time(record: Record, variant: str) -> str:
    median = (record["metrics"].get(f"step_ratio/{variant}") or {}).get("median")
    return HOLE if median is None else f"{100 * median:.1f}"


def _gib(counts: Mapping[str, float]) -> str:
    return f"{counts['peak_memory_bytes'] / 2**30:.3g}"


def _accuracy(row: Row, declared: int) -> tuple[Entry, ...]:
    has_suffix = "+" in row.method
    return (
        spread_entry(row.all_set_average, 1, declared),
        difference_entry(row.over_base, 1) if has_suffix else Entry(NOTHING),
        difference_entry(row.over_control, 1) if has_suffix else Entry(NOTHING),
    )
