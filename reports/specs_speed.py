"""The costs of methods and the speeds of ways of training, declared: one cell measures all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.harness.record import Record
from benchmarks.harness.spec import Task
from benchmarks.method_cost.spec import BASELINE, CONTROL
from benchmarks.speed.spec import LABELS
from benchmarks.speed.ways import EFFECTS, PLAIN
from reports.comparable import machine
from reports.layout import FAILURES, Layout, without_record
from reports.page import HOLE, Block, Column, Entry, Row
from reports.table import Number, Part, quartiles

GIB = 2**30
PERCENT = 100.0


def of_variants(part: Part) -> Iterator[Number]:
    """What a record has of each method, or way of training, that one cell measures side by side."""
    for task in part.grid.benchmark.tasks:
        for found in (one for m in part.rows for one in part.grid.at(m, task.name)):
            number = partial(
                Number,
                task=task.name,
                states=found.reason or found.state.value,
                cell=str(found.cell).rpartition("/")[0],
            )
            record = found.record or {"metrics": {}, "cost": {}}
            for name, of in record["metrics"].items():
                quantity, _, variant = name.partition("/")
                yield number(method=variant, quantity=quantity, **quartiles(of))
            of_each = record["cost"].get("by_method") or record["cost"].get("by_way") or {}
            for variant, of in of_each.items():
                for quantity, value in of.items():
                    inner = value if isinstance(value, dict) else {"": value}
                    for name, one in inner.items():
                        named = f"{quantity}/{name}" if name else quantity
                        yield number(method=variant, quantity=named, value=one)
            for name, rate in record["cost"].get("matmul_flops_per_second", {}).items():
                yield number(method=name, quantity="matmul_flops_per_second", value=rate)


Blocks = Callable[[Part, Task, Record], Iterator[Block]]


def _of_cells(of_record: Blocks, columns: tuple[Column, ...], what: str) -> Callable[[Part], Any]:
    """The blocks of each task, or one that says that there is no record."""

    def ours(part: Part) -> Iterator[Block]:
        for task in part.grid.benchmark.tasks:
            for found in (one for m in part.rows for one in part.grid.at(m, task.name)):
                if found.record is None:
                    yield without_record(part, found, task.label, columns, what)
                else:
                    yield from of_record(part, task, found.record)

    return ours


METHOD_COLUMNS = tuple(
    map(
        Column,
        ("params\n(M)", "step\n%", "quartiles", "memory\nMiB", "beyond the\nmodel, %", "FLOPs\n%"),
    )
)


def _methods(part: Part, task: Task, record: Record) -> Iterator[Block]:
    counts = record["counts"]
    names = [part.table.rows[0], CONTROL, *part.table.rows[1:]]
    yield Block(
        title=(
            f"{task.label} · batch {counts['batch_size']} · rounds: {counts['rounds']} · "
            f"{machine(record)}"
        ),
        columns=METHOD_COLUMNS,
        rows=tuple(Row(name, _method(part, name, task.name)) for name in names),
    )


def _method(part: Part, name: str, task: str) -> tuple[Entry, ...]:
    def value(quantity: str, of: str = name) -> float | None:
        found = part.at(of, quantity, task=task)
        return found.value if found else None

    ratio = part.at(name, "step_ratio", task=task)
    step, quartiles = Entry("100", value=1.0), ""
    if ratio is not None:
        step = Entry(_percent(ratio.value), value=ratio.value)
        quartiles = f"{_percent(ratio.low)} - {_percent(ratio.high)}"
    elif name != BASELINE:
        step = Entry(HOLE)
    peak, resident = value("peak_memory_bytes"), value("resident_bytes")
    if peak is None or resident is None:
        return (Entry(""), step, Entry(quartiles), *(Entry(""),) * 3)
    base = (value("peak_memory_bytes", BASELINE) or 0) - (value("resident_bytes", BASELINE) or 0)
    beyond = (peak - resident) / base
    flops = (value("step_flops") or 0) / (value("step_flops", BASELINE) or 1)
    params = (value("trainable_params") or 0) / 1e6
    return (
        Entry(f"{params:.3f}", value=params),
        step,
        Entry(quartiles),
        Entry(f"{peak / 2**20:.0f}", value=peak),
        Entry(_percent(beyond), value=beyond),
        Entry(_percent(flops), value=flops),
    )


def _percent(fraction: float | None) -> str:
    return HOLE if fraction is None else f"{PERCENT * fraction:.0f}"


def _methods_legend(part: Part) -> Iterator[str]:
    scale = part.grid.scale
    yield (
        f"One training step, forward to optimizer, on {part.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. All methods have the same batch and are timed in turn, in one process."
    )
    yield (
        f"params: trainable, without the head. step: time over that of {BASELINE} in the same round, "
        "median over rounds, with its quartiles. The A/A line is lora-r8 once more: what is within its "
        "quartiles is noise."
    )
    yield (
        "memory: peak of live tensors, that is model, optimizer, batch, and what a step allocates beyond "
        f"them; the latter, over {BASELINE}'s, in the next column. FLOPs: forward and backward, over "
        f"{BASELINE}'s, by torch's counter, which sees matrix products alone."
    )
    yield (
        "noah is the subnet of the median size, as it is retrained. linear, partial, lst, unipt, dtl and "
        "dtl-plus need no backward pass through the frozen backbone, or through the part of it before "
        "what they train."
    )
    yield FAILURES


SPEED_COLUMNS = tuple(
    map(
        Column,
        (
            *("images/s", "quartiles", "x plain", "cells/h", "cells/h\nwith tests", "% of\nfloor"),
            "memory\nGiB",
        ),
    )
)
PRECISIONS = ("fp32", "tf32", "bf16")


def _speeds(part: Part, task: Task, record: Record) -> Iterator[Block]:
    counts, cost = record["counts"], record["cost"]
    known = cost["matmul_flops_per_second"]
    rates = ", ".join(f"{name} {known[name] / 1e12:.3g}" for name in PRECISIONS if name in known)
    left_out = record["protocol"]["left_out"]
    rows = []
    for name in part.table.rows:
        if name in cost["by_way"]:
            rows.append(Row(LABELS[name], _way(part, name, task.name)))
        elif name in left_out:
            why = (Entry(HOLE), Entry(left_out[name][:60]))
            rows.append(Row(LABELS[name], (*why, *(Entry(""),) * (len(SPEED_COLUMNS) - 2))))
    yield Block(
        title=(
            f"{task.label} · batch {counts['batch_size']} · rounds: {counts['rounds']} of "
            f"{counts['steps']} steps · {machine(record)} · matrix products in TFLOP/s: {rates}"
        ),
        corner="way",
        columns=SPEED_COLUMNS,
        rows=tuple(rows),
    )
    effects = []
    for label, without, using in EFFECTS:
        pair = [part.at(name, "images_per_second", task=task.name) for name in (without, using)]
        before, after = (one.value if one else None for one in pair)
        if before is not None and after is not None:
            cells = (_speed(before), _speed(after), _ratio(after, before))
            effects.append(Row(label, cells))
    yield Block(
        title=f"{task.label} · what each part does",
        corner="part",
        columns=tuple(map(Column, ("without\nimages/s", "with\nimages/s", "ratio"))),
        rows=tuple(effects),
    )


def _way(part: Part, name: str, task: str) -> tuple[Entry, ...]:
    def value(quantity: str, of: str = name) -> float | None:
        found = part.at(of, quantity, task=task)
        return found.value if found else None

    speed, plain = part.at(name, "images_per_second", task=task), value("images_per_second", PLAIN)
    assert speed is not None
    assert speed.value is not None
    quartiles = ""
    if speed.low is not None and speed.high is not None:
        quartiles = f"{_speed(speed.low).text} - {_speed(speed.high).text}"
    share, memory = value("floor_share") or 0.0, value("peak_gpu_memory_bytes")
    hours = [value(f"cells_per_hour/{what}") or 0.0 for what in ("training", "with_evaluation")]
    return (
        _speed(speed.value),
        Entry(quartiles),
        _ratio(speed.value, plain) if plain else Entry(HOLE),
        *(Entry(f"{rate:.1f}", value=rate) for rate in hours),
        Entry(f"{PERCENT * share:.0f}", value=share),
        Entry("") if memory is None else Entry(f"{memory / GIB:.1f}", value=memory),
    )


def _speed(rate: float) -> Entry:
    return Entry(f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}", value=rate)


def _ratio(one: float, other: float) -> Entry:
    return Entry(f"{one / other:.2f}", value=one / other)


def _speed_legend(part: Part) -> Iterator[str]:
    scale = part.grid.scale
    yield (
        f"Training of LoRA cells (r = 8) on {part.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. One process, one way after the other; median over rounds, with quartiles."
    )
    yield (
        "x plain: images a second over those of the plain loop, which is the baseline: a data loader "
        "whose workers decode JPEGs, float32, one cell, each loss read in its step."
    )
    yield (
        "cells/h: a stage of VTAB-1K at the scale paper, 100 epochs of 31 steps of 32 images; with tests: "
        "and ten evaluations of the mean test split."
    )
    yield (
        "% of floor: the time that the step's matrix products take at the rate that the device reaches on "
        "one large product at the same precision, over the time of the step."
    )
    yield (
        "memory: the allocator's peak on a GPU, of all cells together. An effect is the ratio of two ways "
        "that differ in one part; A/A is noise."
    )
    yield FAILURES + " Or a way that could not be measured."


METHOD_COST = Layout(
    ours=_of_cells(_methods, METHOD_COLUMNS, "all methods"),
    legend=_methods_legend,
    compute=of_variants,
)
SPEED = Layout(
    ours=_of_cells(_speeds, SPEED_COLUMNS, "all ways"), legend=_speed_legend, compute=of_variants
)
