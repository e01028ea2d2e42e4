"""The numbers of a table: a line each, ours beside the paper's, holes as holes.

Nothing here is text: ``specs.py`` says which lines a table shows, ``render.py`` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.harness.spec import Table, Task
from benchmarks.harness.store import State
from reports import published, stats
from reports.notes import Notes
from reports.rivals import rivals_of
from reports.stats import Difference, Spread

if TYPE_CHECKING:
    from reports.comparable import Measurement
    from reports.records import Grid

FIELDS = (
    *("table", "scale", "benchmark", "backbone", "task", "method", "quantity", "name", "n_declared"),
    *("n", "value", "std", "low", "high", "paper_printed", "paper", "states"),
)  # fmt: skip
"""Columns of every table's CSV."""
SOURCES = (
    *("table", "backbone", "method", "task", "seed"),
    *("record", "record_sha256", "commit", "dirty"),
)


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a table.

    Attributes:
        method: The row.
        quantity: What it is, such as ``task``, ``mean``, ``delta``, ``step_ratio``.
        name: Of what: a task, a group, a pair of methods, a variant of the step.
        task: The device and precision of a cost.
        n_declared: How many seeds are declared; 0: the suite cannot run the method.
        n: Over how many seeds, or pairs, it is.
        value: None is a hole.
        std: Over the seeds.
        low, high: The 95 % interval of a difference, or quartiles.
        paper_printed, paper: What the paper printed, and as an accuracy where that is a change.
        states: What the records behind it are, if they are not all used.
        has_failed: Whether a run behind it failed.
        marks: The letters of its footnotes.
        cell: Where its records are, as benchmark/backbone/task/method; of a mean without the task.
    """

    method: str
    quantity: str
    name: str = ""
    task: str = ""
    n_declared: int | None = None
    n: int | None = None
    value: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    paper_printed: str = ""
    paper: str = ""
    states: str = ""
    has_failed: bool = False
    marks: str = ""
    cell: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A declared table on one grid.

    Attributes:
        table: Its declaration.
        grid: The cells of its rows, and of what they are compared with.
        beside: Another grid that it takes numbers from: the accuracies of a table of costs.
        notes: The footnotes of the whole table.
        compute: What gives its numbers.
    """

    table: Table
    grid: Grid
    notes: Notes
    beside: Grid | None = None
    compute: Callable[[Part], Iterable[Number]]

    @property
    def has_own_methods(self) -> bool:
        """Whether the rows are methods of the benchmark: those of a table of costs are not."""
        return not self.grid.benchmark.is_timed

    @property
    def rows(self) -> tuple[str, ...]:
        """The methods whose cells it is about."""
        return self.table.rows if self.has_own_methods else self.grid.benchmark.methods

    @property
    def in_suite(self) -> list[str]:
        """Those that can be run."""
        return [row for row in self.rows if self.grid.of(row)]

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells without a number."""
        return self.grid.holes(self.in_suite)

    @property
    def behind(self) -> list[Measurement]:
        """What there is for every cell that it is about, in declared order."""
        rows = set(self.rows)
        found = [one for (m, _), at in self.grid.cells.items() if m in rows for one in at]
        return found + [
            one for at in (self.beside.cells if self.beside else {}).values() for one in at
        ]

    @cached_property
    def paper(self) -> published.Cells:
        """What the paper printed, by method and column: of the backbone in whose place ours stands."""
        scale = self.grid.benchmark.scales.get("paper")
        backbone = scale.backbones[self.table.backbone] if scale else None
        return published.cells(self.table.name, backbone)

    @cached_property
    def numbers(self) -> tuple[Number, ...]:
        """All lines, in the order of the rows."""
        return tuple(self.compute(self))

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str], Number]:
        return {(one.method, one.quantity, one.name, one.task): one for one in self.numbers}

    def at(self, method: str, quantity: str, name: str = "", task: str = "") -> Number | None:
        """One of the lines; None where there is none."""
        return self._index.get((method, quantity, name, task))

    def value(self, method: str, quantity: str, name: str = "") -> float | None:
        """The value of a line; None for a hole."""
        found = self.at(method, quantity, name)
        return found.value if found else None

    @property
    def measured(self) -> list[str]:
        """The rows that have any number of a task."""
        return [
            row
            for row in self.rows
            if any(
                self.value(row, "task", task.name) is not None for task in self.grid.benchmark.tasks
            )
        ]

    @property
    def frame(self) -> pd.DataFrame:
        """The lines as a frame with the columns of the CSV."""
        own = [self.grid.benchmark.name, self.grid.backbone]
        where = [one.cell.split("/")[:2] if one.cell else own for one in self.numbers]
        names = [field.name for field in fields(Number) if field.name in FIELDS]
        columns = {name: [getattr(one, name) for one in self.numbers] for name in names}
        columns |= {name: [of[at] for of in where] for at, name in enumerate(FIELDS[2:4])}
        frame = pd.DataFrame(columns, dtype=object)
        frame["table"], frame["scale"] = self.table.name, self.grid.scale.name
        return frame[list(FIELDS)]

    @property
    def sources(self) -> pd.DataFrame:
        """The records that its numbers come from, a row each, with the hash that seals it."""
        rows = [
            (
                *(
                    self.table.name,
                    one.cell.backbone,
                    one.cell.method,
                    one.cell.task,
                    one.cell.seed,
                ),
                *(one.path, one.record["record_sha256"]),
                *(one.record["code"].get("commit"), one.record["code"].get("dirty")),
            )
            for one in self.behind
            if one.record is not None
        ]
        return pd.DataFrame(rows, columns=list(SOURCES), dtype=object)


def of_tasks(part: Part) -> Iterator[Number]:
    """Each row's tasks, groups, averages, parameters, and its change over what it is compared with."""
    for method in part.rows:
        yield from row_numbers(part, method)


def row_numbers(part: Part, method: str) -> Iterator[Number]:
    """All lines of one row."""
    grid = part.grid
    benchmark, values = grid.benchmark, grid.values(method)
    cell = f"{benchmark.name}/{grid.backbone}"
    in_suite = bool(grid.of(method))
    number = partial(
        Number,
        method=method,
        n_declared=len(grid.scale.seeds) if in_suite else 0,
        cell=f"{cell}//{method}" if in_suite else "",
    )
    groups = {
        group: [task.name for task in benchmark.tasks if task.group == group]
        for group in benchmark.groups
    }
    for task in _in_order(benchmark.tasks, benchmark.groups):
        yield number(
            quantity="task",
            name=task.name,
            **spread_of(stats.spread(list(values[task.name].values()))),
            **part.paper.both(method, task.name),
            **standing(part, grid.at(method, task.name)),
            cell=f"{cell}/{task.name}/{method}" if in_suite else "",
        )
    for group, members in groups.items():
        of_group = stats.over_seeds({task: values[task] for task in members}, _mean_of_all)
        yield number(
            quantity="group_mean",
            name=group,
            **spread_of(of_group),
            **part.paper.both(method, group),
        )
    averages = {
        "average": stats.over_seeds(values, lambda of: stats.mean_of_groups(of, groups)),
        "all_set_average": stats.over_seeds(values, _mean_of_all),
    }
    for name, spread in averages.items():
        yield number(
            quantity="mean", name=name, **spread_of(spread), **part.paper.both(method, name)
        )
    yield number(
        quantity="params_m",
        name="trainable_without_head",
        value=params_m(grid, method),
        **part.paper.both(method, "params_m"),
    )
    shown = {"all_set_average": list(values)} | (groups if part.table.layout == "shots" else {})
    for name, tasks in shown.items():
        for over, rival in rivals_of(method).items():
            found = stats.paired_difference(values, grid.values(rival), tasks)
            change = part.paper.change(method, rival, name) if over == "base" else ""
            yield number(
                quantity="delta", name=f"{name}_over_{over}", **change_of(found), paper=change
            )


def quartiles(found: Mapping[str, float | None] | None) -> dict[str, Any]:
    """Median and quartiles of a record; a single value has no quartiles."""
    if found is None or found["median"] is None:
        return {"value": None}
    return {
        "value": found["median"],
        "low": found["lower_quartile"],
        "high": found["upper_quartile"],
    }


def params_m(grid: Grid, method: str) -> float | None:
    """Trainable parameters in millions, mean over the records: some methods have a size for each task."""
    counts = [record["cost"].get("trainable_params") for record in grid.records(method)]
    known = stats.mean(counts)
    return None if known is None else known / 1e6


def _in_order(tasks: Iterable[Task], groups: Iterable[str]) -> list[Task]:
    known = list(tasks)
    return [task for group in groups for task in known if task.group == group]


def standing(part: Part, found: Iterable[Measurement]) -> dict[str, Any]:
    """What the records of a line are, and the letters of its footnotes."""
    known = list(found)
    return {
        "states": "; ".join(sorted({one.reason or one.state.value for one in known})),
        "has_failed": any(one.state is State.NOT_OK for one in known),
        "marks": part.notes.mark(known),
    }


def spread_of(found: Spread | None) -> dict[str, Any]:
    """A spread as fields of a line."""
    return {"n": found.n, "value": found.mean, "std": found.std} if found else {"n": 0}


def change_of(found: Difference | None) -> dict[str, Any]:
    """A paired difference as fields of a line."""
    if found is None:
        return {"n": 0}
    return {"n": found.n_pairs, "value": found.mean, "low": found.low, "high": found.high}


def _mean_of_all(by_task: Mapping[str, float | None]) -> float | None:
    return stats.mean_of_tasks(by_task, by_task)


def sets_of(part: Part) -> tuple[str, ...]:
    """The sets, as the paper names them."""
    return tuple(dict.fromkeys(task.label for task in part.grid.benchmark.tasks))
