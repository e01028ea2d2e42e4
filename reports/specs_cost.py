"""Table 6, declared: what a penalty costs, by variant of the training step, and accuracies beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.cost.spec import BASELINE, PAPER_METHOD, Variant, variants_of
from benchmarks.harness.cell import parse_method
from benchmarks.harness.record import Record
from benchmarks.harness.spec import Task
from benchmarks.harness.store import State
from reports import forms, published
from reports.comparable import Measurement, machine
from reports.layout import FAILURES, Layout, Show, name_of, without_record
from reports.notes import Notes
from reports.page import HOLE, NOTHING, Block, Column, Entry, Row
from reports.table import Number, Part, quartiles, row_numbers

GIB = 2**30
PERCENT = 100.0
PAPER_BATCH = 32
"""The batch size that the paper's FLOPs are of."""


def of_costs(part: Part) -> Iterator[Number]:
    """Every variant of every cell over the step without a penalty; and the accuracies beside them."""
    grid = part.grid
    for task in grid.benchmark.tasks:
        for method in grid.benchmark.methods:
            for found in grid.at(method, task.name):
                for variant in variants_of(method):
                    yield from _variant(part, found, variant)
    if part.beside:
        accuracies = Part(table=part.table, grid=part.beside, notes=Notes(), compute=part.compute)
        for method in part.table.rows:
            for one in row_numbers(accuracies, method):
                is_mean = one.quantity == "mean" and one.name == "all_set_average"
                if is_mean or one.quantity == "delta":
                    printed = part.paper.printed(method, "accuracy") if is_mean else ""
                    name = one.name.removeprefix("all_set_average")
                    yield replace(one, quantity=f"accuracy{name}", name="", paper_printed=printed)


def _variant(part: Part, found: Measurement, variant: Variant) -> Iterator[Number]:
    record = found.record
    metrics = record["metrics"] if record else {}
    counts = record["cost"]["by_variant"] if record else {}
    here, base = counts.get(variant.name), counts.get(BASELINE)
    batch = record["counts"]["batch_size"] if record else 0
    left_out = record["protocol"]["left_out"].get(variant.name, "") if record else ""
    printed_row = _paper_row(found.cell.method, variant)
    number = partial(
        Number,
        method=found.cell.method,
        task=found.cell.task,
        name=variant.name,
        states=left_out or found.reason or found.state.value,
        has_failed=found.state is State.NOT_OK,
        marks=part.notes.mark([found]),
        cell=str(found.cell).rpartition("/")[0],
    )
    ratios: dict[str, Any] = {
        "step_ratio": quartiles(metrics.get(f"step_ratio/{variant.name}")),
        "own_share": quartiles(metrics.get(f"own_share/{variant.name}")),
    }
    for quantity, name in (("memory_ratio", "peak_memory_bytes"), ("flops_ratio", "step_flops")):
        ratios[quantity] = {"value": here[name] / base[name] if here and base else None}
    macs = here["forward_flops"] / 2e12 * PAPER_BATCH / batch if here else None
    ratios["forward_tera_macs"] = {"value": macs}
    ops = here["aten_ops"] - base["aten_ops"] if here and base else None
    ratios["extra_ops"] = {"value": ops}
    about = {"step_ratio": "time", "forward_tera_macs": "flops_t", "memory_ratio": "memory_gb"}
    for quantity, values in ratios.items():
        printed = part.paper.printed(printed_row, about.get(quantity, ""))
        yield number(quantity=quantity, **values, paper_printed=printed)


def _paper_row(method: str, variant: Variant) -> str:
    """The paper's row of a method with a penalty, whatever the form: it has one of each."""
    row = PAPER_METHOD.get(method)
    if row is None or (variant.form == "none" and variant.name != BASELINE):
        return ""
    return f"{row}+{variant.penalty}" if variant.penalty else row


def _step(found: Number | None, digits: int) -> Entry:
    if found and found.states not in ("ok", "missing") and found.value is None:
        return Entry(found.states)
    if found and found.name == BASELINE:
        return Entry("100")
    return forms.quartiles(1, PERCENT)(found, digits)


def _own(found: Number | None, digits: int) -> Entry:
    is_closed = found is not None and found.name.startswith("closed")
    return forms.quartiles(2, PERCENT)(found, digits) if is_closed else Entry(NOTHING)


VARIANT_COLUMNS = (
    Show(title="step\n%", quantity="step_ratio", form=_step),
    Show(title="own\n%", quantity="own_share", form=_own),
    Show(title="memory\n%", quantity="memory_ratio", form=forms.fixed(2, PERCENT)),
    Show(title="FLOPs\n%", quantity="flops_ratio", form=forms.fixed(2, PERCENT)),
    Show(title="fwd\nTMAC", quantity="forward_tera_macs", form=forms.fixed(3)),
    Show(title="ops\n+", quantity="extra_ops", form=forms.fixed(0)),
    Show(title="paper\ntime", quantity="step_ratio", form=forms.printed, is_paper=True),
    Show(title="paper\nFLOPs", quantity="forward_tera_macs", form=forms.printed, is_paper=True),
    Show(title="paper\nGB", quantity="memory_ratio", form=forms.printed, is_paper=True),
)
SUMMARY_COLUMNS = (
    *map(Column, ("memory\nGiB", "FLOPs\nT", "time %\nclosed", "time %\nprinted")),
    *map(Column, ("memory GiB\nprinted", "accuracy\n%", "Δ base\n[95 %]", "Δ control\n[95 %]")),
    *(
        Column(title, is_paper=True)
        for title in ("paper\nGB", "paper\nFLOPs", "paper\ntime", "paper\naccuracy")
    ),
)


def _cost_ours(part: Part) -> Iterator[Block]:
    grid = part.grid
    for task in grid.benchmark.tasks:
        records = {
            one.cell.method: one.record
            for method in grid.benchmark.methods
            for one in grid.at(method, task.name)
            if one.record is not None
        }
        if any(parse_method(method).base in records for method in part.table.rows):
            yield _summary(part, task, records)
    for task in grid.benchmark.tasks:
        for method in grid.benchmark.methods:
            for found in grid.at(method, task.name):
                yield _of_variants(part, task, found)


def _summary(part: Part, task: Task, records: Mapping[str, Record]) -> Block:
    """Table 6 as the paper has it: a row a method, and the accuracy from other records."""
    hardware = [record["hardware"] for record in records.values()]
    machines = sorted({one["gpu"] or one["cpu"] for one in hardware})
    rows = []
    for method in part.table.rows:
        digits = 1
        accuracy = part.at(method, "accuracy")
        changes = (part.at(method, f"accuracy_over_{over}") for over in ("base", "control"))
        paper = (
            part.paper.printed(method, column)
            for column in ("memory_gb", "flops_t", "time", "accuracy")
        )
        cells = (
            *_costs(method, records),
            forms.spread(accuracy, digits)._replace(marks=""),
            *(forms.change(one, digits) for one in changes),
            *(Entry(text) for text in paper),
        )
        rows.append(Row(method, cells))
    return Block(
        title=f"As the paper's table · {task.label} · {', '.join(machines)}",
        columns=SUMMARY_COLUMNS,
        rows=tuple(rows),
    )


def _costs(method: str, records: Mapping[str, Record]) -> tuple[Entry, ...]:
    base, suffix, _ = parse_method(method)
    record = records.get(base)
    counts = record["cost"]["by_variant"] if record else {}
    here = counts.get(f"closed-{suffix}" if suffix else BASELINE)
    if record is None or here is None:
        return (Entry(HOLE),) * 5
    flops = here["forward_flops"] / 2e12 * PAPER_BATCH / record["counts"]["batch_size"]
    shared = (_gib(here), Entry(f"{flops:.3g}", value=flops))
    if not suffix:
        return (*shared, Entry("-" if base == "full" else "100"), Entry(NOTHING), Entry(NOTHING))
    printed = counts.get(f"literal-{suffix}")
    times = (_time(record, f"{form}-{suffix}") for form in ("closed", "literal"))
    return (*shared, *times, _gib(printed) if printed else Entry(HOLE))


def _time(record: Record, variant: str) -> Entry:
    median = (record["metrics"].get(f"step_ratio/{variant}") or {}).get("median")
    return Entry(HOLE) if median is None else Entry(f"{PERCENT * median:.1f}", value=median)


def _gib(counts: Mapping[str, float]) -> Entry:
    size = counts["peak_memory_bytes"] / GIB
    return Entry(f"{size:.3g}", value=size)


def _of_variants(part: Part, task: Task, found: Measurement) -> Block:
    method, record = found.cell.method, found.record
    columns = tuple(Column(show.title, is_paper=show.is_paper) for show in VARIANT_COLUMNS)
    title, variants = f"{method} · {task.label}", variants_of(method)
    if record is None:
        return without_record(part, found, title, columns, f"all {len(variants)} variants")
    counts = record["counts"]
    title += (
        f" · batch {counts['batch_size']} × {counts['tokens']} tokens, {counts['matrices']} matrices · "
        f"rounds: {counts['rounds']}, printed and maps {counts['literal_rounds']} · {machine(record)}"
    )
    rows = []
    for variant in variants:
        cells = [
            show.form(part.at(method, show.quantity, variant.name, task.name), 1)
            for show in VARIANT_COLUMNS
        ]
        if variant.name == BASELINE:
            cells[0], cells[2] = _baseline(record)
        rows.append(Row(variant.label, tuple(cells)))
    return Block(title=title, corner="variant", columns=columns, rows=tuple(rows))


def _baseline(record: Record) -> tuple[Entry, Entry]:
    size = record["cost"]["by_variant"][BASELINE]["peak_memory_bytes"] / GIB
    seconds = record["cost"]["baseline_step_seconds"]
    # Of a shared CPU, seconds would be taken for a statement about the method.
    time = f" ({1e3 * seconds:.2f} ms)" if record["hardware"]["gpu"] else ""
    return Entry(f"100{time}"), Entry(f"100 ({size:.2f} GiB)")


def _cost_legend(part: Part) -> Iterator[str]:
    scale = part.grid.scale
    yield (
        "As the paper has it: memory, peak of live tensors; FLOPs, multiply-adds of the forward pass at "
        f"batch {PAPER_BATCH}; time of a step over that of the method without a penalty, median. closed: "
        "resora's, of which memory and FLOPs are; printed: the equation taken literally. Accuracy: VTAB-1K "
        "at this scale, mean of all tasks, and its change over the method and over stage 2 without a penalty."
    )
    yield (
        f"One training step, forward to optimizer, on {part.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. The heads of the blocks say device, batch and rounds."
    )
    yield (
        "step: time over that of the step without a penalty in the same round, in %, median "
        "[quartiles] over rounds. The A/A line is that step once more: what is within its spread is noise. "
        "Seconds are shown for GPUs alone."
    )
    yield (
        "own: forward and backward of the closed penalty alone, on activations captured from a step, in "
        "% of the step without it, median [quartiles]. It has to be read where step has only noise."
    )
    yield (
        "memory: peak of live tensors. FLOPs: forward and backward, by torch's counter, which sees matrix "
        "products alone. Both in % of the step without a penalty. ops: ATen calls beyond it, on a GPU "
        "about one launch each."
    )
    yield (
        f"fwd: multiply-adds of the forward pass, scaled to batch {PAPER_BATCH}, in T: what the paper's "
        "FLOPs are. paper: its Table 6 (LoRA rows r = 2, DTL rows), on its hardware and in its "
        "implementation; time +x is x % over its row without a penalty."
    )
    yield (
        "closed: resora's. printed: the equation as printed, on features z_i b_i. maps: the same, features "
        "by r maps of d x d applied to every token, which give the FLOPs that the paper prints. After a "
        "comma: what counts as a sample."
    )
    yield (
        "dtl: the method, r = 2. dtl-r2: a rank-2 pair at each block's output, the sizes of DTL without its "
        "short backward pass, in which a penalty weighs more."
    )
    yield FAILURES


def _cost_printed(part: Part) -> Iterator[Block]:
    """The paper's table, every cell as it was typed."""
    paper = published.load_costs(part.table.name)
    yield Block(
        title=f"The paper's {name_of(part.table)}, as printed",
        columns=tuple(Column(heading, is_paper=True) for heading in paper.columns.values()),
        rows=tuple(
            Row(f"{method}: {paper.labels[method]}", tuple(map(Entry, cells.values())))
            for method, cells in paper.cells.items()
        ),
    )


COST = Layout(
    ours=_cost_ours, legend=_cost_legend, paper=_cost_printed, beside="vtab1k", compute=of_costs
)
