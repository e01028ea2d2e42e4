"""Every table, declared: which numbers stand in which columns, and what is said about them.

A benchmark's ``spec.py`` declares that there is a table, its rows, and the name of its layout; a layout here
says what its columns are. A new kind of table is one entry of ``LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from reports import forms, published
from reports.audit.averages import check_averages
from reports.forms import Form
from reports.layout import STATES, Layout, Show, View, measure, name_of
from reports.page import Block, Column, Entry, Row
from reports.published import DOWN_ARROW, UP_ARROW, few_shot
from reports.rivals import base_of, rivals_of
from reports.specs_cost import COST
from reports.specs_retrieval import RETRIEVAL, paper_parts, parts_printed
from reports.specs_speed import METHOD_COST, SPEED
from reports.stats import INTERVAL_METHOD
from reports.table import Part, sets_of

OURS_ALONE = "not in the paper's table"
"""Heading of the methods of the suite that the paper's table does not have."""


PARAMS = Show(
    title="params\n(M)", quantity="params_m", name="trainable_without_head", form=forms.fixed(4)
)
AVERAGE = Show(title="Average", quantity="mean", name="average")
ALL_TASKS = Show(title="All\ntasks", quantity="mean", name="all_set_average")
OVER_BASE = Show(
    title="Δ base\n[95 %]", quantity="delta", name="all_set_average_over_base", form=forms.change
)
OVER_CONTROL = Show(
    title="Δ control\n[95 %]",
    quantity="delta",
    name="all_set_average_over_control",
    form=forms.change,
)
PAPERS = (
    replace(PARAMS, title="paper\nparams", form=forms.paper, in_terminal=False, is_paper=True),
    replace(AVERAGE, title="paper\nAvg.", form=forms.paper, is_paper=True),
    replace(ALL_TASKS, title="paper\nAll", form=forms.paper, is_paper=True),
    replace(OVER_BASE, title="paper\nΔ base", form=forms.paper, is_paper=True),
)


def groups(part: Part, form: Form = forms.mean) -> list[Show]:
    """A column for the mean of each group of tasks."""
    of = part.grid.benchmark.groups.items()
    return [Show(title=title, quantity="group_mean", name=name, form=form) for name, title in of]


def means(part: Part, *more: Show, title: str = "Means, ours and the paper's") -> View:
    """Means and differences of each row."""
    columns = (PARAMS, *groups(part), AVERAGE, ALL_TASKS, OVER_BASE, OVER_CONTROL, *more)
    return View(title=title, columns=columns, sections=_sections(part), has_commands=True)


def by_task(part: Part, title: str = "Ours, by task") -> View:
    """Our numbers by task, with group means, of the methods that the suite has."""
    columns = []
    for group, label in part.grid.benchmark.groups.items():
        for task in part.grid.benchmark.tasks:
            if task.group == group:
                columns.append(Show(title=task.label, quantity="task", name=task.name, group=label))
        columns.append(Show(title=f"{label}\nmean", quantity="group_mean", name=group, group=label))
    rows = [(method, method, "") for method in part.in_suite]
    return View(title=title, columns=columns, rows=rows, sections=_sections(part), across="task")


def _sections(part: Part) -> dict[str, str]:
    """The paper's headings between its rows, and one above the methods that it does not have."""
    if part.table.layout != "tasks" or part.table.name not in published.names():
        return {}
    paper = published.load(part.table.name)
    found: dict[str, str] = {}
    for method in part.rows:
        row = paper.row(method)
        section = row.section if row else ""
        if paper.row(base_of(method) or method) is None:
            section = OURS_ALONE
        if section and section not in found.values():
            found[method] = section
    return found


def _tasks_printed(part: Part) -> Iterator[Block]:
    """The paper's table with a column a task, each cell with its arrow."""
    if part.table.name not in published.names():
        return
    paper, shown = published.load(part.table.name), by_task(part).columns
    columns = [show for show in shown if show.quantity == "task"]
    found, sections = [], _sections(part)
    for method in part.rows:
        if (row := paper.row(method)) is not None:
            cells = tuple(_printed(row.cells[show.name], row.delta_over) for show in columns)
            found.append(Row(method, cells, sections.get(method, "")))
    yield Block(
        title=f"The paper's {name_of(part.table)}, as printed",
        across="task",
        columns=tuple(Column(show.title, show.group, is_paper=True) for show in columns),
        rows=tuple(found),
    )


def _printed(value: Decimal, delta_over: str | None) -> Entry:
    if delta_over is None:
        return Entry(str(value), value=float(value))
    arrow = {1: f" {UP_ARROW}", -1: f" {DOWN_ARROW}"}.get(int(value.compare(Decimal(0))), "")
    return Entry(f"{abs(value)}{arrow}", value=float(value))


def _tasks_legend(part: Part) -> Iterator[str]:
    scale = part.grid.scale
    yield (
        f"Rows of the paper's {name_of(part.table)}, {part.table.title}. Ours: backbone "
        f"{part.grid.backbone}; scale {scale.name}: {scale.description}."
    )
    yield measure(part)
    yield (
        "Average: mean of the group means. All tasks: mean of all tasks. params: trainable, "
        "without the head."
    )
    yield (
        "Δ: change of the mean of all tasks, in percentage points, over the stage-1 method (base) "
        f"and over stage 2 without the penalty (control), paired by task and seed. "
        f"{INTERVAL_METHOD}; {UP_ARROW} or {DOWN_ARROW} where it leaves zero out."
    )
    yield STATES
    if part.table.layout == "tasks" and part.table.name in published.names():
        checks = check_averages(published.load(part.table.name))
        wrong = dict.fromkeys(check.row for check in checks if not check.follows)
        if wrong:
            yield (
                f"The paper's averages do not follow from its cells in {', '.join(wrong)} "
                "(python -m reports audit averages)."
            )


# Tables in parts, each on a backbone of its own


def _groups_ours(part: Part) -> Iterator[View]:
    yield means(part, title=f"Means on {part.grid.backbone}")
    yield by_task(part, f"By task on {part.grid.backbone}")


def _groups_legend(part: Part) -> Iterator[str]:
    yield from _tasks_legend(part)
    for found in paper_parts(part):
        for row in found.rows:
            if row.remark:
                yield f"The paper's row {row.method} of {found.name}: {row.remark}"


# The few-shot table: its groups of tasks are the numbers of shots, the labels of its tasks the sets


def _shots_ours(part: Part) -> Iterator[View]:
    benchmark = part.grid.benchmark
    columns = (PARAMS, *groups(part, forms.spread), replace(AVERAGE, title="All"))
    yield View(title="By shots, mean of the sets", columns=columns, has_commands=True)
    gains = [
        Show(title=title, quantity="delta", name=f"{group}_over_{{over}}", form=forms.change)
        for group, title in benchmark.groups.items()
    ]
    gains.append(replace(OVER_BASE, title="All", name="all_set_average_over_{over}"))
    rows = [
        (f"{method} − {rival}", method, over)
        for method in part.rows
        for over, rival in rivals_of(method).items()
    ]
    yield View(title="Gain by shots [95 %]", columns=gains, rows=rows, corner="methods")
    for label in sets_of(part):
        of_set = [task for task in benchmark.tasks if task.label == label]
        yield View(
            title=label,
            columns=[
                Show(title=benchmark.groups[task.group], quantity="task", name=task.name)
                for task in of_set
            ],
        )


def _shots_legend(part: Part) -> Iterator[str]:
    scale = part.grid.scale
    yield (
        f"The methods of the paper's Figure 3 ({few_shot.PLACE}), which has no numbers. Backbone "
        f"{part.grid.backbone}; scale {scale.name}: {scale.description}."
    )
    yield measure(part) + " The seed chooses the training images too."
    yield (
        "By shots: mean of the sets. All: mean of all numbers of shots. params: trainable, without "
        "the head."
    )
    yield (
        "Gain: change in percentage points over the stage-1 method and over stage 2 without the penalty "
        f"(control), paired by set, shots and seed. {INTERVAL_METHOD}; {UP_ARROW} or {DOWN_ARROW} where "
        "it leaves zero out."
    )
    yield STATES


LAYOUTS: dict[str, Layout] = {
    "tasks": Layout(
        ours=lambda part: (means(part, *PAPERS), by_task(part)),
        legend=_tasks_legend,
        paper=_tasks_printed,
    ),
    "groups": Layout(ours=_groups_ours, legend=_groups_legend, paper=parts_printed),
    "shots": Layout(ours=_shots_ours, legend=_shots_legend),
    "retrieval": RETRIEVAL,
    "cost": COST,
    "method_cost": METHOD_COST,
    "speed": SPEED,
}
"""By the name that `Table.layout` gives."""
