"""Figures from the same numbers as the tables, as PNG and SVG, with the same bytes every time."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from benchmarks.harness.record import Record
from benchmarks.harness.spec import Task
from reports.blocks import warning
from reports.grid import CONTROL, Grid, base_of
from reports.tables import Row, TableData

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#888888")
STYLE: Any = {
    "svg.hashsalt": "resora",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
PENALTIES = ("linear", "nonlinear", "euclidean", "cosine")
FORMATS: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None}}


@mpl.rc_context(STYLE)
def accuracy_by_task(data: TableData) -> Figure:
    """Mean accuracy of each method on each task as numbers, shaded from a task's worst to its best."""
    benchmark = data.grid.benchmark
    tasks = [t for group in benchmark.groups for t in benchmark.tasks if t.group == group]
    shown = _measured(data.rows)
    height = 2.3 + 0.24 * max(1, len(shown))
    figure = Figure(figsize=(13, height), layout="constrained")
    panel = figure.subplots()
    values = np.array([[_mean(row, task) for task in tasks] for row in shown], dtype=float).reshape(
        len(shown), len(tasks)
    )
    shades = _shades(values)
    if len(shown):
        panel.imshow(shades, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for y, x in np.argwhere(np.isfinite(values)):
        dark = shades[y, x] < 0.55
        colour = "white" if dark else "black"
        panel.text(x, y, f"{values[y, x]:.1f}", ha="center", va="center", color=colour, fontsize=7)
    panel.set_yticks(range(len(shown)), [row.method for row in shown])
    labels = [task.label for task in tasks]
    panel.set_xticks(range(len(tasks)), labels, rotation=40, ha="right", rotation_mode="anchor")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    _part_groups(panel, [task.group for task in tasks])
    _head(
        figure,
        data,
        f"{benchmark.metrics[0].label} in %, shaded by task: bright is that task's best",
    )
    return figure


@mpl.rc_context(STYLE)
def redundancy(data: TableData) -> Figure:
    """Redundancy of the adapted layers at the end, with and without each penalty."""
    grid = data.grid
    bases = [
        row.method for row in data.rows if any(base_of(r.method) == row.method for r in data.rows)
    ]
    figure = Figure(figsize=(max(6.0, 3.6 * len(bases)), 4.2), layout="constrained")
    figure.subplots(1, max(1, len(bases)), sharey=True, squeeze=False)
    for panel, base in zip(figure.axes, bases, strict=False):
        _redundancy_panel(panel, grid, base)
    figure.axes[0].set_ylabel("mean cos² between subspaces")
    # Room for the numbers above the highest dots.
    figure.axes[0].set_ylim(0, 1.12 * figure.axes[0].get_ylim()[1])
    _head(figure, data, "Redundancy after training, by method: dots are tasks, bars their mean")
    return figure


def encode(figure: Figure) -> dict[str, bytes]:
    """The figure's bytes by format; nothing in them depends on when they are made."""
    encoded = {}
    for suffix, metadata in FORMATS.items():
        target = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(target, format=suffix, metadata=metadata, dpi=150)
        encoded[suffix] = target.getvalue()
    return encoded


def redundancy_at_end(record: Record) -> float | None:
    """The redundancy over all adapted matrices at the end of the cell's training."""
    found = record["redundancy"]
    value: float | None = found["end"]["mean"] if found else None
    return value


def _measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if any(cell.spread for cell in row.cells.values())]


def _mean(row: Row, task: Task) -> float:
    spread = row.cells[task.name].spread
    return math.nan if spread is None else spread.mean


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
        means = _redundancy_of_tasks(grid.records(method))
        if not means:
            _write(panel, "no record", (x, 0), rotation=90, va="bottom", color="#888888")
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


def _redundancy_of_tasks(records: Iterable[Record]) -> list[float]:
    """The mean over seeds of each task that has a record."""
    by_task: dict[str, list[float]] = {}
    for record in records:
        value = redundancy_at_end(record)
        if value is not None:
            by_task.setdefault(record["cell"]["task"], []).append(value)
    return [math.fsum(values) / len(values) for values in by_task.values()]


def _write(panel: Axes, text: str, point: tuple[float, float], **style: Any) -> None:
    """Write a small text just above a point."""
    panel.annotate(
        text, point, (0, 5), textcoords="offset points", ha="center", fontsize=8, **style
    )


def _spaced(centre: float, n: int) -> list[float]:
    """Places side by side around a centre, in the order of the tasks, so that dots do not hide."""
    return [centre + 0.5 * ((index + 0.5) / n - 0.5) for index in range(n)]


def _head(figure: Figure, data: TableData, title: str) -> None:
    text = f"{title} · scale {data.grid.scale.name}, {data.grid.backbone}"
    if caution := warning(data):
        text += "\n" + fill(caution, int(figure.get_figwidth() * 13))
    if data.holes:
        text += f"\ndeclared cells without a number, not drawn: {len(data.holes)}"
    figure.suptitle(text, fontsize=9)
