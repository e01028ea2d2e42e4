"""What accuracy costs, and how it goes with redundancy: one point a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from reports.figures import labels
from reports.figures.labels import Point
from reports.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    STYLE,
    head,
    legend_below,
    redundancy_of_tasks,
    say_no_record,
)
from reports.grid import CONTROL, base_of
from reports.tables import Row, TableData

# The control's marker is larger and hollow: a method with a penalty often lies on its control.
KINDS: dict[str, dict[str, Any]] = {
    "": {"label": "stage 1", "color": GREY, "fmt": "o", "ms": 5},
    CONTROL: {
        "label": "stage 2 without penalty",
        "color": ORANGE,
        "fmt": "s",
        "ms": 8,
        "markerfacecolor": "none",
        "markeredgewidth": 1.2,
    },
}
PENALISED: dict[str, Any] = {"label": "stage 2 with a penalty", "color": BLUE, "fmt": "^", "ms": 5}
NO_PARAMETERS = 0.3
"""Where a method without parameters is drawn: so many times the fewest that another has."""


@mpl.rc_context(STYLE)
def cost_accuracy(data: TableData, step_times: Sequence[tuple[str, float]] = ()) -> Figure:
    """Mean accuracy over all tasks against trainable parameters without the head; bars ± std over seeds.

    ``step_times``: methods with the time of a training step over that of lora-r8, for a second panel.
    """
    shown = [row for row in data.rows if row.all_set_average and row.params_m is not None]
    figure, panels = _panels(2 if step_times else 1)
    head(figure, data, "Accuracy against trainable parameters: mean of all tasks")
    sizes = [1e3 * (row.params_m or 0.0) for row in shown]
    drawn = [(panels[0], shown, _log_scale(panels[0], sizes))]
    panels[0].set_xlabel("trainable parameters without the head, thousands")
    if step_times:
        times = dict(step_times)
        timed = [row for row in shown if row.method in times]
        drawn.append((panels[1], timed, [times[row.method] for row in timed]))
        panels[1].set_xlabel("time of a training step over lora-r8's")
    _say_missing(panels[0], data.rows, shown)
    _points(figure, drawn)
    return figure


@mpl.rc_context(STYLE)
def redundancy_accuracy(*tables: TableData) -> Figure:
    """Mean accuracy against mean redundancy at the end, of every method with subspaces.

    Arrows lead from a method to what stage 2 with R_l made of it.
    """
    rows = {row.method: row for data in tables for row in data.rows}
    grid = tables[0].grid
    tasks = len(grid.benchmark.tasks)
    redundancies = {method: redundancy_of_tasks(grid.records(method)) for method in rows}
    # A mean with a hole is a hole.
    at = {
        method: math.fsum(values) / tasks
        for method, values in redundancies.items()
        if len(values) == tasks and rows[method].all_set_average
    }
    shown = [rows[method] for method in at]
    figure, panels = _panels(1)
    title = "Accuracy against redundancy after training; arrows: stage 2 with $R_l$"
    head(figure, tables[0], title)
    panels[0].set_xlabel("mean cos² between subspaces, at the end")
    _say_missing(
        panels[0],
        # Only a method with subspaces has a second stage.
        [row for method, row in rows.items() if redundancies[method] or base_of(method)],
        shown,
    )
    _points(figure, [(panels[0], shown, list(at.values()))], _arrows(panels[0], shown, at))
    return figure


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.2 if n == 1 else 11.5, 5.4), layout="constrained")
    panels = list(figure.subplots(1, n, sharey=True, squeeze=False).flat)
    panels[0].set_ylabel("top-1 accuracy, mean of all tasks, %")
    for panel in panels:
        panel.grid(color="#eeeeee")
        panel.margins(0.12)
    return figure, panels


def _log_scale(panel: Axes, sizes: Sequence[float]) -> list[float]:
    """Places of sizes on a logarithmic axis, zero at its left, parted from the others."""
    least = min((size for size in sizes if size), default=1.0)
    most = max([least, *sizes])
    zero, parting = NO_PARAMETERS * least, math.sqrt(NO_PARAMETERS) * least
    steps = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]
    ticks = [step for step in steps if parting < step < 1.5 * most]
    panel.set_xscale("log")
    panel.minorticks_off()
    if 0 in sizes:
        panel.axvline(parting, color=GREY, linewidth=0.6, linestyle=":")
        panel.set_xticks([zero, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
    else:
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return [size or zero for size in sizes]


def _say_missing(panel: Axes, rows: Sequence[Row], shown: Sequence[Row]) -> None:
    """Name below a panel's axis the methods of the suite that have no point, if others have one."""
    missing = [row.method for row in rows if row.is_in_suite and row not in shown]
    if shown and missing:
        text = f"not drawn, since a task has no record: {', '.join(missing)}"
        panel.annotate(
            fill(text, 110, break_on_hyphens=False), (0.5, 0), (0, -32), xycoords="axes fraction",
            textcoords="offset points", ha="center", va="top", fontsize=7, color=GREY,
        )  # fmt: skip


def _points(
    figure: Figure,
    drawn: Sequence[tuple[Axes, Sequence[Row], Sequence[float]]],
    arrows: Sequence[tuple[Point, Point]] = (),
) -> None:
    """Draw each panel's rows at their places, with their names beside points and arrows."""
    named = []
    for panel, rows, x in drawn:
        points, labelled = [], set()
        for row, place in zip(rows, x, strict=True):
            assert row.all_set_average is not None
            kind = KINDS.get(parse_method(row.method).suffix or "", PENALISED)
            label = None if kind["label"] in labelled else kind["label"]
            mean, std = row.all_set_average.mean, row.all_set_average.std or 0.0
            panel.errorbar(place, mean, std, lw=1, **(kind | {"label": label}))
            labelled.add(kind["label"])
            points.append((place, mean))
        if not rows:
            panel.set_xticks([])
            say_no_record(panel)
        named.append((panel, points, [row.method for row in rows]))
    legend_below(figure)
    for panel, points, names in named:
        labels.place(panel, points, names, arrows)


def _arrows(panel: Axes, rows: Sequence[Row], x: dict[str, float]) -> list[tuple[Point, Point]]:
    """Draw arrows from each stage-1 method to what stage 2 with R_l made of it; return their ends."""
    drawn = []
    at = {
        row.method: (x[row.method], row.all_set_average.mean) for row in rows if row.all_set_average
    }
    for method, point in at.items():
        base = base_of(method)
        if base is not None and base in at and parse_method(method).suffix == "linear":
            panel.annotate(
                "",
                point,
                at[base],
                arrowprops={"arrowstyle": "->", "lw": 0.8, "color": GREEN, "alpha": 0.7},
            )
            drawn.append((at[base], point))
    return drawn
