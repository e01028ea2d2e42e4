"""A declared table, computed and written: one function for each layout that a table may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.harness.spec import Table
from reports import blocks, parts, retrieval, shots, sources, tidy
from reports.cost.blocks import page as cost_page
from reports.cost.table import CostTable, tabulate_costs
from reports.cost.tidy import render as cost_csv
from reports.grid import Grid
from reports.measurement import Measurement
from reports.method_cost import table as method_cost
from reports.method_cost.table import MethodCosts
from reports.page import Page
from reports.speed import table as speed
from reports.speed.table import Speeds
from reports.tables import TableData, tabulate_grid


@dataclass(frozen=True, kw_only=True)
class Report:
    """One table at one scale.

    Attributes:
        name: Name of the table.
        data: Its numbers; None for a table that no benchmark feeds.
        page: Its text, for Markdown, LaTeX and terminal.
        csv: Its numbers as tidy CSV.
        sources: The records that its numbers come from, as CSV.
        holes: The declared cells that have no number.
        parts: The numbers of each of its parts, if it has several benchmarks.
        also: What it uses of cells that are not its benchmark's.
    """

    name: str
    data: TableData | CostTable | MethodCosts | Speeds | None
    page: Page
    csv: str
    sources: str = ""
    holes: tuple[Measurement, ...]
    parts: tuple[TableData, ...] = ()
    also: tuple[Measurement, ...] = ()


def report(table: Table, grid: Grid) -> Report:
    """Compute a table from the declared grid, and write it."""
    found = LAYOUTS[table.layout](table, grid)
    behind = [*sources.behind(table, grid), *found.also]
    found = replace(found, sources=sources.render(table.name, behind))
    page = found.page
    legend = list(page.legend)
    if grid.overrides:
        changed = ", ".join(f"{name} = {value}" for name, value in grid.overrides.items())
        legend.insert(0, f"Configuration as declared, but for {changed}.")
    if refused := [one for one in behind if one.is_refused]:
        legend.append(f"Records refused: {len(refused)}; the notes say which and why.")
    warning = page.warning
    if drafts := [one for one in behind if one.caveat]:
        warning = f"DRAFT: {len(drafts)} records are not final; the notes say why. {warning or ''}".strip()
    return replace(found, page=replace(page, legend=tuple(legend), warning=warning))


def _of_tasks(
    write: Callable[[TableData], Page],
    csv: Callable[[TableData], str] = tidy.render,
    *,
    has_tasks: bool = False,
) -> Callable[[Table, Grid], Report]:
    """A layout of a table with a number for each task; ``has_tasks``: the paper printed them too."""

    def report(table: Table, grid: Grid) -> Report:
        data = tabulate_grid(table, grid, has_tasks=has_tasks)
        return Report(
            name=table.name,
            data=data,
            page=write(data),
            csv=csv(data),
            holes=tuple(data.holes),
        )

    return report


def _cost(table: Table, grid: Grid) -> Report:
    data = tabulate_costs(table, grid)
    return Report(
        name=table.name,
        data=data,
        page=cost_page(data),
        csv=cost_csv(data),
        holes=tuple(data.holes),
        also=tuple(data.behind_accuracies),
    )


def _method_cost(table: Table, grid: Grid) -> Report:
    data = method_cost.tabulate(table, grid)
    return Report(
        name=table.name,
        data=data,
        page=method_cost.page(data),
        csv=method_cost.render_csv(data),
        holes=tuple(data.holes),
    )


def _speed(table: Table, grid: Grid) -> Report:
    data = speed.tabulate(table, grid)
    return Report(
        name=table.name,
        data=data,
        page=speed.page(data),
        csv=speed.render_csv(data),
        holes=tuple(data.holes),
    )


def joined(reports: Sequence[Report]) -> Report:
    """One report from those of the parts of a table."""
    if len(reports) == 1:
        return reports[0]
    return replace(
        reports[0],
        page=parts.joined([one.page for one in reports]),
        csv=_one_header([one.csv for one in reports]),
        sources=_one_header([one.sources for one in reports]),
        holes=tuple(hole for one in reports for hole in one.holes),
        parts=tuple(one.data for one in reports if isinstance(one.data, TableData)),
    )


def _one_header(texts: Sequence[str]) -> str:
    """Join CSV texts with the same header."""
    header = texts[0].partition("\n")[0] + "\n"
    return header + "".join(text.removeprefix(header) for text in texts)


LAYOUTS: dict[str, Callable[[Table, Grid], Report]] = {
    "tasks": _of_tasks(blocks.page, has_tasks=True),
    "groups": _of_tasks(parts.page),
    "shots": _of_tasks(shots.page),
    "retrieval": _of_tasks(retrieval.page, retrieval.render_csv),
    "cost": _cost,
    "method_cost": _method_cost,
    "speed": _speed,
}
"""By the name that `Table.layout` gives."""
