"""The halves of Table 1, declared: recalls on Flickr30K and MSR-VTT, with parameters and memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reports import forms, published, stats
from reports.layout import STATES, Layout, Show, View, name_of
from reports.page import Block, Column, Entry, Row
from reports.published import DOWN_ARROW, UP_ARROW
from reports.records import Grid
from reports.rivals import rivals_of
from reports.table import Number, Part, change_of, spread_of, standing

MEMORY_UNIT = 1024**2 * 1000
"""Bytes of the unit of memory: a thousandth of so many mebibytes, as the code of UniPT prints it."""
METERS = {
    "peak_gpu_memory_bytes": "peak that torch allocated on the GPU",
    "peak_process_memory_bytes": (
        "peak of the resident memory of the CPU's process, which may have run other cells before"
    ),
}
RULES = {
    "best_val": "epoch with the best Rsum on dev",
    "last_epoch": "last epoch",
    "max_test": "epoch with the best Rsum on test",
}
TRAINED = {
    "flickr30k": "the image encoder is trained in every row and, as in the paper, counted in none.",
    "msrvtt": "both towers; the head (meanP) has no parameters. The paper's memory is that of four GPUs.",
}
"""What is to be said of each benchmark's counts."""


def _retrieval_ours(part: Part) -> Iterator[View]:
    (paper,) = paper_parts(part)
    metrics = [name for name in paper.columns if name not in ("params_m", "memory_gb")]
    yield View(
        title=f"Ours: {part.grid.benchmark.name} on {part.grid.backbone}",
        columns=(
            Show(title="params\nadapter", quantity="params_adapter_m", form=forms.fixed(4)),
            Show(title="params\ntotal", quantity="params_m", form=forms.fixed(4)),
            Show(title="memory", quantity="memory_gb", form=forms.fixed(3)),
            *(Show(title=paper.columns[name], quantity=name) for name in metrics),
            Show(
                title="Δ base\n[95 %]", quantity="delta", name="rsum_over_base", form=forms.change
            ),
            Show(
                title="Δ control\n[95 %]",
                quantity="delta",
                name="rsum_over_control",
                form=forms.change,
            ),
            Show(title="paper\nRsum", quantity="rsum", form=forms.printed, is_paper=True),
        ),
        has_commands=True,
    )


def _retrieval_legend(part: Part) -> Iterator[str]:
    scale, name = part.grid.scale, part.grid.benchmark.name
    meter = meter_of(part.grid)
    yield (
        f"{name}: rows of the paper's {name_of(part.table)}. Ours: backbone {part.grid.backbone}; "
        f"scale {scale.name}: {scale.description}."
    )
    yield (
        f"Recalls at 1 and their sum over both directions and ranks 1, 5, 10 (Rsum), in %; mean ± sample "
        f"std over n = {len(scale.seeds)} seeds, a cell with fewer says its n. {name}: of the "
        f"{RULES[part.grid.benchmark.selections[0]]}."
    )
    yield (
        "params: trainable, in millions. adapter: without the head; total: with it. "
        f"{name}: {TRAINED[name]}"
    )
    yield (
        f"Memory in MiB / 1000, the unit of UniPT's code, which calls it GB: "
        f"{METERS[meter] if meter else 'none measured'}. The paper's meter is not named."
    )
    yield (
        f"Δ: change of Rsum over the stage-1 method (base) and over stage 2 without the penalty "
        f"(control), paired by seed. 95 % interval in brackets: Student's t over the seeds; {UP_ARROW} "
        f"or {DOWN_ARROW} where it leaves zero out."
    )
    yield STATES


def of_retrieval(part: Part) -> Iterator[Number]:
    """Each row's parameters, memory, recalls, and the change of Rsum, the primary metric."""
    grid = part.grid
    benchmark, meter = grid.benchmark, meter_of(grid)
    (task,) = benchmark.tasks
    for method in part.rows:
        states = standing(part, grid.of(method))
        where = f"{benchmark.name}/{grid.backbone}/{task.name}/{method}"
        number = partial(Number, method=method, n_declared=len(grid.scale.seeds), cell=where)
        sizes = _sizes(grid, method, meter)
        for quantity, printed in (
            ("params_adapter_m", ""),
            ("params_m", "params_m"),
            ("memory_gb", "memory_gb"),
        ):
            size = sizes[quantity]
            n = 0 if size is None else len(grid.records(method))
            yield number(
                quantity=quantity,
                n=n,
                value=size,
                paper_printed=part.paper.printed(method, printed),
                **states,
            )
        for metric in benchmark.metrics:
            values = grid.values(method, metric.name)[task.name]
            yield number(
                quantity=metric.name,
                **spread_of(stats.spread(list(values.values()))),
                paper_printed=part.paper.printed(method, metric.name),
                **states,
            )
        for over, rival in rivals_of(method).items():
            found = stats.paired_difference(grid.values(method), grid.values(rival), [task.name])
            yield number(quantity="delta", name=f"rsum_over_{over}", **change_of(found))


def meter_of(grid: Grid) -> str | None:
    """Which memory the records have: all of one column is measured alike. None: they have none."""
    records = [one.record for at in grid.cells.values() for one in at if one.record]
    return next((m for m in METERS if any(r["cost"].get(m) for r in records)), None)


def _sizes(grid: Grid, method: str, meter: str | None) -> dict[str, float | None]:
    """Parameters in millions and memory in its unit, means over the records."""
    costs = [record["cost"] for record in grid.records(method)]
    adapter = stats.mean([cost.get("trainable_params") for cost in costs])
    head = stats.mean([cost.get("head_params") for cost in costs])
    memory = stats.mean([cost.get(meter) for cost in costs]) if meter else None
    return {
        "params_adapter_m": None if adapter is None else adapter / 1e6,
        "params_m": None if adapter is None or head is None else (adapter + head) / 1e6,
        "memory_gb": None if memory is None else memory / MEMORY_UNIT,
    }


def parts_printed(part: Part) -> Iterator[Block]:
    """A part of the paper's table, every cell as it was typed."""
    for found in paper_parts(part):
        yield Block(
            title=f"The paper's {found.name}, as printed",
            columns=tuple(Column(title, is_paper=True) for title in found.columns.values()),
            rows=tuple(
                Row(row.method, tuple(Entry(row.cells[column]) for column in found.columns))
                for row in found.rows
            ),
        )


def paper_parts(part: Part) -> list[published.Part]:
    """The paper's part on the backbone in whose place ours stands."""
    backbone = part.grid.benchmark.scales["paper"].backbones[part.table.backbone]
    return [one for one in published.load_parts(part.table.name).parts if one.backbone == backbone]


RETRIEVAL = Layout(
    ours=_retrieval_ours, legend=_retrieval_legend, paper=parts_printed, compute=of_retrieval
)
