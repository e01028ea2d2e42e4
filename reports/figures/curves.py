"""Accuracy over shots (Figure 3) and over the epochs of stage 2 (Figure 4): one panel a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.harness.record import Record
from reports.figures.style import (
    BLUE,
    GREY,
    NO_RECORD,
    ORANGE,
    STYLE,
    head,
    legend_below,
    say_no_record,
)
from reports.records import Grid
from reports.table import Part

BASE, CONTROL, PENALISED = "lora-r8", "lora-r8+control", "lora-r8+linear"
Series: TypeAlias = dict[int, dict[int, float]]
"""Epoch -> seed -> accuracy in %."""


@mpl.rc_context(STYLE)
def stage2(data: Part) -> Figure:
    """Test accuracy over the epochs of stage 2 with R_l and without; epoch 0 is the end of stage 1."""
    grid = data.grid
    tasks = list(grid.benchmark.tasks)
    columns = 5
    rows = math.ceil((len(tasks) + 1) / columns)
    figure = Figure(figsize=(9.6, 1.0 + 1.65 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    series = {
        (task.name, method): _series(grid, method, task.name)
        for task in tasks
        for method in (CONTROL, PENALISED)
    }
    for panel, task in zip(panels, tasks, strict=False):
        _epochs(panel, {m: series[task.name, m] for m in (CONTROL, PENALISED)})
        panel.set_title(task.label, fontsize=8)
    mean = panels[len(tasks)]
    has_any = any(series.values())
    _epochs(
        mean,
        {m: _over_tasks([series[t.name, m] for t in tasks]) for m in (CONTROL, PENALISED)},
        # A mean with a hole is a hole.
        otherwise="a task lacks records" if has_any else NO_RECORD,
    )
    mean.set_title("mean of all tasks", fontsize=8, fontweight="bold")
    for panel in panels[len(tasks) + 1 :]:
        panel.set_visible(False)
    panels[0].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    if not has_any:
        panels[0].set_xticks([])
    panels[len(tasks) - 2].set_xlabel("epoch of stage 2")
    figure.supylabel("test accuracy, %", fontsize=9)
    legend_below(figure)
    head(figure, data, "Test accuracy over stage 2 of LoRA r = 8: mean over seeds, band min to max")
    return figure


def _series(grid: Grid, method: str, task: str) -> Series:
    series: Series = {}
    factor = grid.benchmark.metrics[0].factor
    for found in grid.at(method, task):
        if found.record is None:
            continue
        for epoch, value in _evaluated(found.record, grid.benchmark.metrics[0].name):
            series.setdefault(epoch, {})[found.cell.seed] = factor * value
    bases = grid.values(BASE)[task]
    seeds = {seed for at in series.values() for seed in at}
    start = {seed: base for seed in seeds if (base := bases.get(seed)) is not None}
    return {0: start, **series} if start and len(start) == len(seeds) else series


def _evaluated(record: Record, metric: str) -> list[tuple[int, float]]:
    """The epochs of stage 2 that were evaluated, with the test metric as a fraction."""
    curves = record["curves"].get("stage2", {})
    pairs = zip(curves.get("epoch", []), curves.get(f"test_{metric}", []), strict=True)
    return [(epoch, value) for epoch, value in pairs if value is not None]


def _over_tasks(tasks: Sequence[Series]) -> Series:
    """The mean over tasks of each epoch and seed that all of them have."""
    mean: Series = {}
    for epoch in tasks[0] if tasks else ():
        seeds = set.intersection(*(set(task.get(epoch, {})) for task in tasks))
        for seed in seeds:
            values = [task[epoch][seed] for task in tasks]
            mean.setdefault(epoch, {})[seed] = math.fsum(values) / len(values)
    return mean


LABELS = {CONTROL: "without penalty", PENALISED: "with $R_l$ (ReSoRA)"}


def _epochs(panel: Axes, by_method: Mapping[str, Series], otherwise: str = NO_RECORD) -> None:
    for (method, series), colour in zip(by_method.items(), (ORANGE, BLUE), strict=True):
        epochs = sorted(series)
        if not epochs:
            continue
        values = [list(series[epoch].values()) for epoch in epochs]
        means = [math.fsum(at) / len(at) for at in values]
        line = ":" if method == CONTROL else "-"
        panel.plot(
            epochs, means, line, marker="o", ms=2.5, lw=1.4, color=colour, label=LABELS[method]
        )
        lows, highs = [min(at) for at in values], [max(at) for at in values]
        panel.fill_between(epochs, lows, highs, color=colour, alpha=0.15, lw=0)
    start = [series[0] for series in by_method.values() if 0 in series]
    if start:
        # Both start there, unless one of them lacks seeds.
        most = max(start, key=len)
        end = math.fsum(most.values()) / len(most)
        panel.axhline(end, color=GREY, linewidth=0.8, linestyle="--", label="end of stage 1")
    if not panel.lines:
        say_no_record(panel, otherwise)
    panel.tick_params(labelsize=7)
