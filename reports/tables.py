"""The numbers of one table: every declared row, ours beside the paper's, holes as holes.

Nothing here is text: ``blocks.py`` formats, ``tidy.py`` writes the same numbers in full precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.harness.spec import Table
from reports import published, stats
from reports.grid import Grid, base_of, control_of
from reports.measurement import Measurement
from reports.published import PublishedRow, PublishedTable
from reports.stats import Difference, Spread


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A method on a task: its spread over the seeds that there are, and what each seed has."""

    spread: Spread | None
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of a table.

    Attributes:
        method: The registry's name.
        is_in_suite: Whether the method can be run at all; if not, ours is "n/a" and not a hole.
        params_m: Trainable parameters without the head, in millions, from the records.
        cells: By task.
        groups: Group means.
        average: The mean of the group means.
        all_set_average: The mean of all tasks.
        over_base: Paired difference over the stage-1 method, mean of all tasks.
        over_control: Paired difference over the stage-2 control, mean of all tasks.
        printed: The paper's row as printed.
        absolute: The paper's row as accuracies.
    """

    method: str
    is_in_suite: bool
    params_m: float | None
    cells: dict[str, CellResult]
    groups: dict[str, Spread | None]
    average: Spread | None
    all_set_average: Spread | None
    over_base: Difference | None
    over_control: Difference | None
    printed: PublishedRow | None
    absolute: PublishedRow | None


@dataclass(frozen=True, kw_only=True)
class TableData:
    """One table at one scale."""

    table: Table
    grid: Grid
    rows: tuple[Row, ...]

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells of this table without a number."""
        return self.grid.holes(row.method for row in self.rows if row.is_in_suite)


def tabulate_grid(table: Table, grid: Grid, *, has_tasks: bool = True) -> TableData:
    """Compute a table from the declared grid; ``has_tasks``: the paper printed it task by task."""
    paper = published.load(table.name) if has_tasks else None
    rows = tuple(_row(method, grid, paper) for method in table.rows)
    return TableData(table=table, grid=grid, rows=rows)


def _row(method: str, grid: Grid, paper: PublishedTable | None) -> Row:
    values = grid.values(method)
    groups = {
        group: [task.name for task in grid.benchmark.tasks if task.group == group]
        for group in grid.benchmark.groups
    }
    tasks = [task.name for task in grid.benchmark.tasks]
    return Row(
        method=method,
        is_in_suite=(method, tasks[0]) in grid.measurements,
        params_m=_params_m(grid, method),
        cells={
            task: CellResult(
                spread=stats.spread(list(values[task].values())),
                measurements=grid.at(method, task),
            )
            for task in tasks
        },
        groups={
            group: over_seeds({task: values[task] for task in members}, _mean_of_all)
            for group, members in groups.items()
        },
        average=over_seeds(values, lambda by_task: stats.mean_of_groups(by_task, groups)),
        all_set_average=over_seeds(values, _mean_of_all),
        over_base=_difference(grid, method, base_of(method)),
        over_control=_difference(grid, method, control_of(method)),
        printed=None if paper is None else paper.row(method),
        absolute=None if paper is None else paper.absolute(method),
    )


def over_seeds(
    values: Mapping[str, Mapping[int, float]],
    average: Callable[[Mapping[str, float | None]], float | None],
) -> Spread | None:
    """An average of the tasks' means over seeds, with the spread of the average between seeds.

    The spread needs the same seeds in every task; without them there is none, and n is the fewest.
    """
    seed_sets = {frozenset(by_seed) for by_seed in values.values()}
    if frozenset() in seed_sets or not seed_sets:
        return None
    if len(seed_sets) == 1:
        seeds = sorted(seed_sets.pop())
        per_seed = [average({task: values[task][seed] for task in values}) for seed in seeds]
        return stats.spread([value for value in per_seed if value is not None])
    centre = average({task: stats.mean(by_seed.values()) for task, by_seed in values.items()})
    return None if centre is None else Spread(mean=centre, std=None, n=min(map(len, seed_sets)))


def _mean_of_all(by_task: Mapping[str, float | None]) -> float | None:
    return stats.mean_of_tasks(by_task, by_task)


def _difference(grid: Grid, method: str, baseline: str | None) -> Difference | None:
    if baseline is None:
        return None
    tasks = [task.name for task in grid.benchmark.tasks]
    return stats.paired_difference(grid.values(method), grid.values(baseline), tasks)


def _params_m(grid: Grid, method: str) -> float | None:
    """Mean over the records: some methods have a size for each task."""
    counts = [record["cost"].get("trainable_params") for record in grid.records(method)]
    known = stats.mean(counts)
    return None if known is None else known / 1e6
