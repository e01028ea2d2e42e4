"""Accuracy of all methods on all tasks, and redundancy after training, at a glance."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from benchmarks.harness.spec import Task
from reports.figures.style import (
    COLOURS,
    GREY,
    PENALTIES,
    STYLE,
    head,
    redundancy_of_tasks,
    say_no_record,
)
from reports.records import Grid
from reports.rivals import CONTROL, base_of
from reports.table import Part


@mpl.rc_context(STYLE)
def accuracy_by_task(data: Part) -> Figure:
    """Mean accuracy of each method on each task as numbers, shaded from a task's worst to its best."""
    benchmark = data.grid.benchmark
    tasks = [t for group in benchmark.groups for t in benchmark.tasks if t.group == group]
    shown = data.measured
    height = 2.3 + 0.24 * max(1, len(shown))
    figure = Figure(figsize=(13, height), layout="constrained")
    panel = figure.subplots()
    values = np.array(
        [[_mean(data, row, task) for task in tasks] for row in shown], dtype=float
    ).reshape(len(shown), len(tasks))
    shades = _shades(values)
    if not len(shown):
        say_no_record(panel)
    else:
        panel.imshow(shades, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for y, x in np.argwhere(np.isfinite(values)):
        dark = shades[y, x] < 0.55
        colour = "white" if dark else "black"
        panel.text(x, y, f"{values[y, x]:.1f}", ha="center", va="center", color=colour, fontsize=7)
    panel.set_yticks(range(len(shown)), shown)
    labels = [task.label for task in tasks]
    panel.set_xticks(range(len(tasks)), labels, rotation=40, ha="right", rotation_mode="anchor")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    _part_groups(panel, [task.group for task in tasks])
    head(
        figure,
        data,
        f"{benchmark.metrics[0].label} in %, shaded by task: bright is that task's best",
    )
    return figure


@mpl.rc_context(STYLE)
def redundancy(data: Part) -> Figure:
    """Redundancy of the adapted layers at the end, with and without each penalty."""
    grid = data.grid
    bases = [method for method in data.rows if any(base_of(other) == method for other in data.rows)]
    figure = Figure(figsize=(max(6.0, 3.6 * len(bases)), 4.2), layout="constrained")
    figure.subplots(1, max(1, len(bases)), sharey=True, squeeze=False)
    for panel, base in zip(figure.axes, bases, strict=False):
        _redundancy_panel(panel, grid, base)
    figure.axes[0].set_ylabel("mean cos² between subspaces")
    # Room for the numbers above the highest dots.
    figure.axes[0].set_ylim(0, 1.12 * figure.axes[0].get_ylim()[1])
    head(figure, data, "Redundancy after training, by method: dots are tasks, bars their mean")
    return figure


def _mean(data: Part, method: str, task: Task) -> float:
    value = data.value(method, "task", task.name)
    return math.nan if value is None else value


def _shades(values: Any) -> Any:
    """Place each value between the worst (0) and the best (1) of its column; holes stay holes."""
    if not len(values):
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of holes has no range
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return (values - low) / np.maximum(high - low, 1e-9)


def _part_groups(panel: Axes, groups: Sequence[str]) -> None:
    for x, (one, other) in enumerate(itertools.pairwise(groups)):
        if one != other:
            panel.axvline(x + 0.5, color="white", linewidth=3)


def _redundancy_panel(panel: Axes, grid: Grid, base: str) -> None:
    methods = [base, *(f"{base}+{suffix}" for suffix in (CONTROL, *PENALTIES))]
    tasks = len(grid.benchmark.tasks)
    for x, method in enumerate(methods):
        means = redundancy_of_tasks(grid, method)
        if not means:
            _write(panel, "no record", (x, 0), rotation=90, va="bottom", color=GREY)
            continue
        colour = COLOURS[x % len(COLOURS)]
        panel.scatter(_spaced(x, len(means)), means, s=9, color=colour, alpha=0.55, linewidths=0)
        # A mean with a hole is a hole.
        label = f"{len(means)} of\n{tasks} tasks"
        if len(means) == tasks:
            centre = math.fsum(means) / tasks
            label = f"{centre:.3f}"
            panel.hlines(centre, x - 0.32, x + 0.32, color=colour, linewidth=2.5)
        _write(panel, label, (x, max(means)))
    labels = ["stage 1", *(f"+{parse_method(method).suffix}" for method in methods[1:])]
    panel.set_xticks(range(len(methods)), labels, rotation=40, ha="right", rotation_mode="anchor")
    panel.set_xlim(-0.6, len(methods) - 0.4)
    panel.grid(axis="y", color="#eeeeee")
    panel.set_title(base)


def _write(panel: Axes, text: str, point: tuple[float, float], **style: Any) -> None:
    """Write a small text just above a point."""
    panel.annotate(
        text, point, (0, 5), textcoords="offset points", ha="center", fontsize=8, **style
    )


def _spaced(centre: float, n: int) -> list[float]:
    """Places side by side around a centre, in the order of the tasks, so that dots do not hide."""
    return [centre + 0.5 * ((index + 0.5) / n - 0.5) for index in range(n)]
