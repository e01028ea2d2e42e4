"""What accuracy costs, and how it goes with redundancy: one point a method."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from reports.figures import labels
from reports.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    STYLE,
    head,
    redundancy_of_tasks,
    say_no_record,
)
from reports.grid import CONTROL, base_of
from reports.tables import Row, TableData

KINDS = {"": ("stage 1", GREY, "o"), CONTROL: ("stage 2 without penalty", ORANGE, "s")}
PENALISED = ("stage 2 with a penalty", BLUE, "^")
NO_PARAMETERS = 0.3
"""Where a method without parameters is drawn: so many times the fewest that another has."""


@mpl.rc_context(STYLE)
def cost_accuracy(data: TableData) -> Figure:
    """Mean accuracy over all tasks against trainable parameters without the head; bars ± std over seeds."""
    shown = [row for row in data.rows if row.all_set_average and row.params_m is not None]
    figure, panel = _figure()
    head(figure, data, "Accuracy against trainable parameters: mean of all tasks")
    sizes = [1e3 * (row.params_m or 0.0) for row in shown]
    least = min((size for size in sizes if size), default=1.0)
    x = [size or NO_PARAMETERS * least for size in sizes]
    panel.set_xscale("log")
    panel.set_xlabel("trainable parameters without the head, thousands")
    _points(panel, shown, x)
    if NO_PARAMETERS * least in x:
        panel.axvline(0.55 * least, color=GREY, linewidth=0.6, linestyle=":")
        panel.text(
            NO_PARAMETERS * least, 0, "none", ha="center", va="bottom", fontsize=7, color=GREY,
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip
    return figure


@mpl.rc_context(STYLE)
def redundancy_accuracy(*tables: TableData) -> Figure:
    """Mean accuracy against mean redundancy at the end, of every method with subspaces."""
    rows = {row.method: row for data in tables for row in data.rows if row.all_set_average}
    grid = tables[0].grid
    tasks = len(grid.benchmark.tasks)
    shown, x = [], []
    for method, row in rows.items():
        values = redundancy_of_tasks(grid.records(method))
        if len(values) == tasks:  # a mean with a hole is a hole
            shown.append(row)
            x.append(math.fsum(values) / tasks)
    figure, panel = _figure()
    head(figure, tables[0], "Accuracy against redundancy after training: means of all tasks")
    panel.set_xlabel("mean cos² between subspaces, at the end")
    _arrows(panel, shown, x)
    _points(panel, shown, x)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    panel = figure.subplots()
    panel.set_ylabel("top-1 accuracy, mean of all tasks, %")
    panel.grid(color="#eeeeee")
    panel.margins(0.12)
    return figure, panel


def _points(panel: Axes, rows: Sequence[Row], x: Sequence[float]) -> None:
    if not rows:
        say_no_record(panel)
        return
    labelled: set[str] = set()
    points: list[tuple[float, float]] = []
    for row, place in zip(rows, x, strict=True):
        assert row.all_set_average is not None
        label, colour, marker = KINDS.get(parse_method(row.method).suffix or "", PENALISED)
        panel.errorbar(
            place, row.all_set_average.mean, row.all_set_average.std or 0.0,
            fmt=marker, ms=5, lw=1, color=colour, label=None if label in labelled else label,
        )  # fmt: skip
        labelled.add(label)
        points.append((place, row.all_set_average.mean))
    panel.legend(frameon=False, fontsize=7, loc="lower right")
    labels.place(panel, points, [row.method for row in rows])


def _arrows(panel: Axes, rows: Sequence[Row], x: Sequence[float]) -> None:
    """From each stage-1 method to what its second stages made of it."""
    at = {
        row.method: (place, row.all_set_average.mean)
        for row, place in zip(rows, x, strict=True)
        if row.all_set_average
    }
    for method, point in at.items():
        base = base_of(method)
        if base in at:
            panel.annotate(
                "",
                point,
                at[base],
                arrowprops={"arrowstyle": "->", "lw": 0.7, "color": GREEN, "alpha": 0.6},
            )
