"""What a table's declaration is made of, and how it becomes a page: columns, views, layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmarks.harness.spec import Table
from benchmarks.harness.store import State
from reports import forms
from reports.comparable import Measurement
from reports.forms import Form
from reports.page import FAILED, HOLE, NOT_IN_SUITE, Block, Column, Entry, Page, Row
from reports.table import Number, Part, of_tasks

STATES = (
    f"{HOLE} no record, or none that can be used; a mean with a hole is a hole. {FAILED} the run failed. "
    f"{NOT_IN_SUITE} the method is not in the suite yet; it has no row where only ours are shown."
)
"""What stands in the place of a number."""
FAILURES = f"{HOLE} no record, or none that can be used. {FAILED} the run failed."


@dataclass(frozen=True, kw_only=True)
class Show:
    """A column of a view: the number whose quantity and name these are, in a form.

    Attributes:
        title: Its heading.
        quantity, name: Of the lines that it shows; in a name, ``{over}`` is a row's rival.
        form: How it is written.
        group: Heading of several columns.
        in_terminal: Whether it is shown where the width is short.
        is_paper: Whether it is the paper's number.
    """

    title: str
    quantity: str
    name: str = ""
    form: Form = forms.spread
    group: str | None = None
    in_terminal: bool = True
    is_paper: bool = False


@dataclass(frozen=True, kw_only=True)
class View:
    """A block of a table.

    Attributes:
        title: What it shows.
        columns: Its columns.
        rows: Label, method, and what ``{over}`` stands for; None: all rows of the table.
        sections: Headings above rows, by method.
        corner, across: What a row and a column are.
        has_commands: Whether a row with holes has the command that fills them.
    """

    title: str
    columns: Sequence[Show]
    rows: Sequence[tuple[str, str, str]] | None = None
    sections: dict[str, str] | None = None
    corner: str = "method"
    across: str = ""
    has_commands: bool = False

    def block(self, part: Part) -> Block:
        """The view with its numbers."""
        digits = part.grid.benchmark.metrics[0].digits
        rows = self.rows
        if rows is None:
            rows = [(method, method, "") for method in part.rows]
        return Block(
            title=self.title,
            corner=self.corner,
            across=self.across,
            columns=tuple(
                Column(show.title, show.group, show.in_terminal, show.is_paper)
                for show in self.columns
            ),
            rows=tuple(
                Row(
                    label,
                    tuple(
                        show.form(
                            part.at(method, show.quantity, show.name.format(over=over)), digits
                        )
                        for show in self.columns
                    ),
                    (self.sections or {}).get(method, ""),
                    command(part, part.grid.holes([method])) if self.has_commands else "",
                )
                for label, method, over in rows
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a kind of table looks.

    Attributes:
        ours: Its views, or finished blocks, of one part.
        legend: How to read the cells of one part.
        paper: The paper's blocks, as printed.
        beside: The benchmark that it takes accuracies from.
        compute: What gives its numbers; a number for each task, if nothing else is said.
    """

    ours: Callable[[Part], Iterable[View | Block]]
    legend: Callable[[Part], Iterable[str]]
    paper: Callable[[Part], Iterable[Block]] = lambda part: ()
    beside: str = ""
    compute: Callable[[Part], Iterable[Number]] = of_tasks


@dataclass(frozen=True, kw_only=True)
class Report:
    """One table at one scale.

    Attributes:
        name: Name of the table.
        parts: Its declared parts with their numbers.
        page: Its text, for Markdown, LaTeX, HTML and terminal.
    """

    name: str
    parts: tuple[Part, ...]
    page: Page

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells that have no number."""
        return [hole for part in self.parts for hole in part.holes]

    @property
    def frame(self) -> pd.DataFrame:
        """Its numbers, one line each."""
        return pd.concat([part.frame for part in self.parts])

    @property
    def sources(self) -> pd.DataFrame:
        """The records that its numbers come from."""
        return pd.concat([part.sources for part in self.parts])


def report(parts: Sequence[Part], layout: Layout) -> Report:
    """Lay out a table from its parts."""
    ours = [
        view.block(part) if isinstance(view, View) else view
        for part in parts
        for view in layout.ours(part)
    ]
    legend = list(dict.fromkeys(line for part in parts for line in layout.legend(part)))
    legend += [line for part in parts for line in _holes(part)]
    if overrides := parts[0].grid.overrides:
        changed = ", ".join(f"{name} = {value}" for name, value in overrides.items())
        legend.insert(0, f"Configuration as declared, but for {changed}.")
    behind = [one for part in parts for one in part.behind]
    if refused := [one for one in behind if one.is_refused]:
        legend.append(f"Records refused: {len(refused)}; the notes say which and why.")
    caution = warning(parts[0])
    if drafts := [one for one in behind if one.caveat]:
        caution = f"DRAFT: {len(drafts)} records are not final; the notes say why. {caution or ''}"
    page = Page(
        title=heading(parts),
        warning=caution.strip() if caution else None,
        legend=tuple(legend),
        ours=tuple(ours),
        paper=tuple(block for part in parts for block in layout.paper(part)),
        notes=tuple(parts[0].notes.lines()),
    )
    return Report(name=parts[0].table.name, parts=tuple(parts), page=page)


def heading(parts: Sequence[Part]) -> str:
    """What the table is, on which benchmark and backbone."""
    text = f"{name_of(parts[0].table)} · scale {parts[0].grid.scale.name}"
    if len({part.grid.benchmark.name for part in parts}) > 1:
        return text
    text += f" · {parts[0].grid.benchmark.name}"
    return text if len(parts) > 1 else f"{text} on {parts[0].grid.backbone}"


def name_of(table: Table) -> str:
    """``Table 2``; of a table that the paper does not have, what it shows."""
    number = table.name.removeprefix("table")
    return table.title if number == table.name else f"Table {number}"


def warning(part: Part) -> str | None:
    """What a reader must not take these numbers for; None for the published protocol."""
    scale = part.grid.scale
    if not scale.is_embedded:
        return None
    if part.grid.benchmark.is_timed:
        if scale.name == "smoke":
            return (
                "SMOKE SCALE: a small backbone and a few rounds; plumbing only, no difference means "
                "anything. NOT a reproduction of the paper's numbers."
            )
        return (
            "EMBEDDED WORLD: costs of a small backbone, accuracies on generated tasks. NOT a reproduction "
            "of the paper's numbers."
        )
    text = (
        "EMBEDDED WORLD: generated tasks under the names of the real ones, and a small backbone. "
        "NOT a reproduction of the paper's numbers."
    )
    if scale.name == "smoke":
        text += " SMOKE SCALE: plumbing only, no difference between methods means anything."
    return text


def command(part: Part, holes: Sequence[Measurement]) -> str:
    """The command that fills these holes of one method; nothing without holes."""
    if not holes:
        return ""
    cell = holes[0].cell
    grid = part.grid
    settings = [f" --set {name}={value}" for name, value in grid.overrides.items()]
    selector = f"{cell.benchmark}/{cell.backbone}/*/{cell.method}"
    return f"python -m benchmarks run '{selector}' --scale {grid.scale.name}{''.join(settings)}"


def without_record(
    part: Part, found: Measurement, title: str, columns: tuple[Column, ...], what: str
) -> Block:
    """A block of one row of holes, with the command that fills them."""
    failed = found.state is State.NOT_OK
    first = Entry(FAILED if failed else HOLE, marks=part.notes.mark([found]))
    cells = (first, *(Entry(HOLE),) * (len(columns) - 1))
    row = Row(what, cells, command=command(part, [found]))
    return Block(title=f"{title} · no record", corner="variant", columns=columns, rows=(row,))


def measure(part: Part) -> str:
    """What is measured, by which rule an epoch is chosen, and over how many seeds."""
    benchmark, n = part.grid.benchmark, len(part.grid.scale.seeds)
    metric = benchmark.metrics[0]
    spread = (
        f"mean ± sample std over n = {n} seeds, a cell with fewer says its n"
        if n > 1
        else "n = 1 seed, so no spread over seeds"
    )
    rule = benchmark.selections[0].replace("_", " ")
    return f"{metric.label} in {metric.unit}, {rule}; {spread}."


def _holes(part: Part) -> list[str]:
    if not part.holes:
        return []
    declared = sum(len(part.grid.of(row)) for row in part.in_suite)
    return [f"Declared cells without a number: {len(part.holes)} of {declared}."]
