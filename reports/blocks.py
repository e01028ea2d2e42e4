"""A table with a column for each task, as blocks of text cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from benchmarks.harness.spec import Table
from benchmarks.harness.store import State
from reports import published
from reports.grid import base_of, control_of
from reports.notes import Notes
from reports.page import FAILED, HOLE, NOT_IN_SUITE, NOTHING, Block, Column, Entry, Page
from reports.published import DOWN_ARROW, UP_ARROW, PublishedRow
from reports.published.averages import check_averages
from reports.stats import INTERVAL_METHOD, Difference, Spread
from reports.tables import CellResult, Row, TableData

STATES = (
    f"{HOLE} no record, or none that can be used; a mean with a hole is a hole. {FAILED} the run failed. "
    f"{NOT_IN_SUITE} the method is not in the suite yet; it has no row where only ours are shown."
)
"""What stands in the place of a number."""

OURS_ALONE = "not in the paper's table"
"""Heading of the methods of the suite that the paper's table does not have."""


def page(data: TableData) -> Page:
    """Format a table."""
    notes = Notes()
    by_task = by_task_block(data, notes)
    return Page(
        title=heading(data),
        warning=warning(data),
        legend=legend(data),
        ours=(means_block(data), by_task),
        paper=(paper_block(data),),
        notes=tuple(notes.lines()),
    )


def heading(data: TableData) -> str:
    """What the table is, on which benchmark and backbone."""
    where = f"{data.grid.benchmark.name} on {data.grid.backbone}"
    return f"{name_of(data.table)} · scale {data.grid.scale.name} · {where}"


def name_of(table: Table) -> str:
    """``Table 2``; of a table that the paper does not have, what it shows."""
    number = table.name.removeprefix("table")
    return table.title if number == table.name else f"Table {number}"


def warning(data: TableData) -> str | None:
    """What a reader must not take these numbers for; None for the published protocol."""
    scale = data.grid.scale
    if not scale.is_embedded:
        return None
    text = (
        "EMBEDDED WORLD: generated tasks under the names of the real ones, and a small backbone. "
        "NOT a reproduction of the paper's numbers."
    )
    if scale.name == "smoke":
        text += " SMOKE SCALE: plumbing only, no difference between methods means anything."
    return text


def legend(data: TableData) -> tuple[str, ...]:
    """How to read the cells."""
    table, scale = data.table, data.grid.scale
    lines = [
        f"Rows of the paper's {name_of(table)}, {table.title}. "
        f"Ours: backbone {data.grid.backbone}; scale {scale.name}: {scale.description}.",
        measure(data),
        "Average: mean of the group means. All tasks: mean of all tasks. params: trainable, "
        "without the head.",
        "Δ: change of the mean of all tasks, in percentage points, over the stage-1 method (base) "
        f"and over stage 2 without the penalty (control), paired by task and seed. "
        f"{INTERVAL_METHOD}; {UP_ARROW} or {DOWN_ARROW} where it leaves zero out.",
        STATES,
    ]
    if wrong := _averages_that_do_not_follow(data):
        lines.append(
            f"The paper's averages do not follow from its cells in {', '.join(wrong)} "
            "(python -m reports audit averages)."
        )
    return (*lines, *holes(data))


def measure(data: TableData) -> str:
    """What is measured, by which rule an epoch is chosen, and over how many seeds."""
    benchmark, n = data.grid.benchmark, len(data.grid.scale.seeds)
    metric = benchmark.metrics[0]
    spread = (
        f"mean ± sample std over n = {n} seeds, a cell with fewer says its n"
        if n > 1
        else "n = 1 seed, so no spread over seeds"
    )
    rule = benchmark.selections[0].replace("_", " ")
    return f"{metric.label} in {metric.unit}, {rule}; {spread}."


def holes(data: TableData) -> list[str]:
    """How many declared cells have no number, if any."""
    if not data.holes:
        return []
    declared = sum(len(cell.measurements) for row in data.rows for cell in row.cells.values())
    return [f"Declared cells without a number: {len(data.holes)} of {declared}."]


def _averages_that_do_not_follow(data: TableData) -> list[str]:
    """The rows that the paper printed by task, of which an average is not that of its cells."""
    if not any(row.printed for row in data.rows):
        return []
    checks = check_averages(published.load(data.table.name))
    return list(dict.fromkeys(check.method for check in checks if not check.follows))


def means_block(data: TableData) -> Block:
    """Means and differences, ours beside the paper's."""
    benchmark = data.grid.benchmark
    columns = (
        Column("params\n(M)"),
        *(Column(heading) for heading in benchmark.groups.values()),
        Column("Average"),
        Column("All\ntasks"),
        Column("Δ base\n[95 %]"),
        Column("Δ control\n[95 %]"),
        Column("paper\nparams", in_terminal=False),
        Column("paper\nAvg."),
        Column("paper\nAll"),
        Column("paper\nΔ base"),
    )
    rows = tuple((row.method, _means(row, data)) for row in data.rows)
    return Block(
        title="Means, ours and the paper's",
        corner="method",
        columns=columns,
        rows=rows,
        sections=_sections(data.rows),
    )


def by_task_block(data: TableData, notes: Notes) -> Block:
    """Our accuracies by task, with group means, of the methods that the suite has."""
    benchmark, scale = data.grid.benchmark, data.grid.scale
    digits, declared = benchmark.metrics[0].digits, len(scale.seeds)
    rows, shown = [], [row for row in data.rows if row.is_in_suite]
    for row in shown:
        entries: list[Entry] = []
        for group in benchmark.groups:
            for task in benchmark.tasks:
                if task.group == group:
                    entries.append(cell_entry(row.cells[task.name], digits, declared, notes))
            entries.append(spread_entry(row.groups[group], digits, declared))
        rows.append((row.method, tuple(entries)))
    title = "Ours, by task"
    columns = _task_columns(data, with_means=True)
    return replace(_task_block(title, columns, rows), sections=_sections(shown))


def paper_block(data: TableData) -> Block:
    """The paper's cells as it printed them."""
    benchmark = data.grid.benchmark
    ordered = [
        task.name for group in benchmark.groups for task in benchmark.tasks if task.group == group
    ]
    rows = [
        (row.method, tuple(_printed(row.printed, task) for task in ordered))
        for row in data.rows
        if row.printed is not None
    ]
    title = f"The paper's Table {data.table.name.removeprefix('table')}, as printed"
    columns = _task_columns(data, with_means=False)
    printed = [row for row in data.rows if row.printed is not None]
    return replace(_task_block(title, columns, rows), sections=_sections(printed))


def _sections(rows: Sequence[Row]) -> tuple[tuple[int, str], ...]:
    """The paper's headings between its rows, and one above the methods that it does not have."""
    printed = {row.method for row in rows if row.printed}
    found: list[tuple[int, str]] = []
    for index, row in enumerate(rows):
        section = row.printed.section if row.printed else None
        if printed and (base_of(row.method) or row.method) not in printed:
            section = OURS_ALONE
        if section and section not in (heading for _, heading in found):
            found.append((index, section))
    return tuple(found)


def _task_block(
    title: str, columns: tuple[Column, ...], rows: list[tuple[str, tuple[Entry, ...]]]
) -> Block:
    return Block(title=title, corner="method", across="task", columns=columns, rows=tuple(rows))


def _task_columns(data: TableData, *, with_means: bool) -> tuple[Column, ...]:
    columns: list[Column] = []
    for group, heading in data.grid.benchmark.groups.items():
        tasks = [task for task in data.grid.benchmark.tasks if task.group == group]
        columns += [Column(task.label, heading) for task in tasks]
        if with_means:
            columns.append(Column(f"{heading}\nmean", heading))
    return tuple(columns)


def _means(row: Row, data: TableData) -> tuple[Entry, ...]:
    digits, declared = data.grid.benchmark.metrics[0].digits, len(data.grid.scale.seeds)
    # A group's spread stands in the block by task; here it would make the row too wide to read.
    groups = [spread and replace(spread, std=None) for spread in row.groups.values()]
    params = HOLE if row.params_m is None else f"{row.params_m:.4f}"
    return (
        _ours(row, Entry(params)),
        *(_ours(row, spread_entry(spread, digits, declared)) for spread in groups),
        _ours(row, spread_entry(row.average, digits, declared)),
        _ours(row, spread_entry(row.all_set_average, digits, declared)),
        _difference(row, row.over_base, digits, is_asked=base_of(row.method) is not None),
        _difference(row, row.over_control, digits, is_asked=control_of(row.method) is not None),
        *_paper_means(row, data),
    )


def _paper_means(row: Row, data: TableData) -> tuple[Entry, ...]:
    if row.absolute is None:
        return (Entry(NOTHING),) * 4
    base = next((r.absolute for r in data.rows if r.method == base_of(row.method)), None)
    delta = NOTHING
    if base is not None:
        delta = f"{row.absolute.all_set_average - base.all_set_average:+}"
    return (
        Entry(str(row.absolute.params_m)),
        Entry(str(row.absolute.average)),
        Entry(str(row.absolute.all_set_average)),
        Entry(delta),
    )


def cell_entry(cell: CellResult, digits: int, declared: int, notes: Notes) -> Entry:
    """A method on a task: mean ± std over seeds, with the footnotes of what is missing."""
    marks = notes.mark(cell.measurements)
    if cell.spread is not None:
        return Entry(spread_entry(cell.spread, digits, declared).text, marks)
    has_failed = any(found.state is State.NOT_OK for found in cell.measurements)
    return Entry(FAILED if has_failed else HOLE, marks)


def _ours(row: Row, entry: Entry) -> Entry:
    return entry if row.is_in_suite else Entry(NOT_IN_SUITE)


def spread_entry(spread: Spread | None, digits: int, declared: int) -> Entry:
    """Mean ± std, and n if it is less than declared."""
    if spread is None:
        return Entry(HOLE)
    std = "" if spread.std is None else f" ± {spread.std:.{digits}f}"
    fewer = f" (n={spread.n})" if spread.n < declared else ""
    return Entry(f"{spread.mean:.{digits}f}{std}{fewer}")


def _difference(row: Row, found: Difference | None, digits: int, *, is_asked: bool) -> Entry:
    if not is_asked:
        return Entry(NOTHING)
    return _ours(row, difference_entry(found, digits))


def difference_entry(found: Difference | None, digits: int) -> Entry:
    """A difference with its interval, and an arrow where that leaves zero out."""
    if found is None:
        return Entry(HOLE)
    text = signed(found.mean, digits + 1)
    if found.low is not None and found.high is not None:
        text += f" [{signed(found.low, digits + 1)}, {signed(found.high, digits + 1)}]"
    if found.excludes_zero:
        text += f" {UP_ARROW if found.mean > 0 else DOWN_ARROW}"
    return Entry(text)


def signed(value: float, digits: int) -> str:
    """A number with its sign."""
    text = f"{value:+.{digits}f}"
    # A difference that rounds to zero has no sign to show.
    return text[1:] if float(text) == 0 else text


def _printed(row: PublishedRow | None, task: str) -> Entry:
    if row is None:
        return Entry(NOTHING)
    value = row.cells[task]
    if row.delta_over is None:
        return Entry(str(value))
    arrow = {1: f" {UP_ARROW}", -1: f" {DOWN_ARROW}"}.get(int(value.compare(Decimal(0))), "")
    return Entry(f"{abs(value)}{arrow}")
