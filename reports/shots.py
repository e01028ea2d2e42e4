"""The few-shot table: accuracy by shots, and what the penalty gains at each, over means of the sets.

The paper has no such table; its Figure 3 shows the curves. The groups of the benchmark's tasks are the
numbers of shots, the labels of its tasks the sets.
"""

from __future__ import annotations

from dataclasses import replace

from reports import stats
from reports.blocks import (
    STATES,
    cell_entry,
    difference_entry,
    heading,
    holes,
    measure,
    spread_entry,
    warning,
)
from reports.grid import Grid, base_of, control_of
from reports.notes import Notes
from reports.page import HOLE, Block, Column, Entry, Page
from reports.published import DOWN_ARROW, UP_ARROW
from reports.stats import INTERVAL_METHOD, Difference
from reports.tables import TableData


def page(data: TableData) -> Page:
    """Format the table."""
    notes = Notes()
    sets = tuple(_set_block(data, label, notes) for label in labels(data.grid))
    scale = data.grid.scale
    return Page(
        title=heading(data),
        warning=warning(data),
        legend=(
            f"The methods of the paper's Figure 3, which has no numbers. Backbone {data.grid.backbone}; "
            f"scale {scale.name}: {scale.description}.",
            measure(data) + " The seed chooses the training images too.",
            "By shots: mean of the sets. All: mean of all numbers of shots. params: trainable, without "
            "the head.",
            "Gain: change in percentage points over the stage-1 method and over stage 2 without the penalty "
            f"(control), paired by set, shots and seed. {INTERVAL_METHOD}; {UP_ARROW} or {DOWN_ARROW} where "
            "it leaves zero out.",
            STATES,
            *holes(data),
        ),
        ours=(means_block(data), _gains_block(data), *sets),
        paper=(),
        notes=tuple(notes.lines()),
    )


def labels(grid: Grid) -> tuple[str, ...]:
    """The sets, as the paper names them."""
    return tuple(dict.fromkeys(task.label for task in grid.benchmark.tasks))


def gains(grid: Grid, method: str, rival: str) -> dict[str, Difference | None]:
    """The paired difference of two methods at each number of shots, over the sets."""
    ours, theirs = grid.values(method), grid.values(rival)
    return {
        group: stats.paired_difference(
            ours, theirs, [task.name for task in grid.benchmark.tasks if task.group == group]
        )
        for group in grid.benchmark.groups
    }


def means_block(data: TableData) -> Block:
    """Accuracy by shots, mean of the sets."""
    digits, declared = data.grid.benchmark.metrics[0].digits, len(data.grid.scale.seeds)
    rows = []
    for row in data.rows:
        params = HOLE if row.params_m is None else f"{row.params_m:.4f}"
        spreads = (*row.groups.values(), row.average)
        entries = (spread_entry(spread, digits, declared) for spread in spreads)
        rows.append((row.method, (Entry(params), *entries)))
    headings = data.grid.benchmark.groups.values()
    return Block(
        title="By shots, mean of the sets",
        corner="method",
        columns=(Column("params\n(M)"), *map(Column, headings), Column("All")),
        rows=tuple(rows),
    )


def _gains_block(data: TableData) -> Block:
    digits = data.grid.benchmark.metrics[0].digits
    rows = []
    for row in data.rows:
        rivals = (base_of(row.method), control_of(row.method))
        overall = (row.over_base, row.over_control)
        for rival, of_all in zip(rivals, overall, strict=True):
            if rival is not None:
                by_shots = gains(data.grid, row.method, rival).values()
                entries = (difference_entry(found, digits) for found in (*by_shots, of_all))
                rows.append((f"{row.method} − {rival}", tuple(entries)))
    headings = data.grid.benchmark.groups.values()
    return Block(
        title="Gain by shots [95 %]",
        corner="methods",
        columns=(*map(Column, headings), Column("All")),
        rows=tuple(rows),
    )


def _set_block(data: TableData, label: str, notes: Notes) -> Block:
    digits, declared = data.grid.benchmark.metrics[0].digits, len(data.grid.scale.seeds)
    tasks = [task for task in data.grid.benchmark.tasks if task.label == label]
    rows = tuple(
        (
            row.method,
            tuple(cell_entry(row.cells[task.name], digits, declared, notes) for task in tasks),
        )
        for row in data.rows
    )
    block = replace(means_block(data), title=label, rows=rows)
    headings = [data.grid.benchmark.groups[task.group] for task in tasks]
    return replace(block, columns=tuple(map(Column, headings)))
