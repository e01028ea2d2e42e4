"""Figure 1 (b): what the penalty gains on each task."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.spec import Task
from reports import published, stats
from reports.figures.style import BLUE, GREY, ORANGE, STYLE, head, say_no_record
from reports.grid import CONTROL, Grid, base_of
from reports.tables import TableData

SUFFIX = "linear"


@mpl.rc_context(STYLE)
def gains_by_task(data: TableData) -> Figure:
    """Accuracy with R_l less that of stage 1 and of the control, by task; bars are std over seeds."""
    benchmark = data.grid.benchmark
    tasks = [t for group in benchmark.groups for t in benchmark.tasks if t.group == group]
    paper = published.load("table2")
    bases = [
        base_of(row.method) or ""
        for row in data.rows
        if row.method.endswith(f"+{SUFFIX}") and row.printed
    ]
    figure = Figure(figsize=(9.6, 1.2 + 1.75 * max(1, len(bases))), layout="constrained")
    panels = figure.subplots(max(1, len(bases)), 1, sharex=True, squeeze=False)[:, 0]
    for panel, base in zip(panels, bases, strict=False):
        row = paper.row(f"{base}+{SUFFIX}")
        printed = {name: float(value) for name, value in row.cells.items()} if row else {}
        _panel(panel, data.grid, base, tasks, printed)
    labels = [*(task.label for task in tasks), "mean"]
    panels[-1].set_xticks(
        range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor"
    )
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, ncols=3, loc="outside lower center", frameon=False)
    head(figure, data, "Gain of R_l by task, in points: mean over seeds, bars ± std")
    return figure


def _panel(
    panel: Axes, grid: Grid, base: str, tasks: list[Task], printed: Mapping[str, float]
) -> None:
    panel.axhline(0, color=GREY, linewidth=0.8)
    names = [task.name for task in tasks]
    drawn = 0
    for rival, label, colour, shift in (
        (base, "over stage 1", ORANGE, -0.15),
        (f"{base}+{CONTROL}", "over stage 2 without penalty", BLUE, 0.15),
    ):
        gains = _gains(grid, f"{base}+{SUFFIX}", rival, names)
        places = [x + shift for x, gain in enumerate(gains) if gain]
        found = [gain for gain in gains if gain]
        stds = [gain.std or 0.0 for gain in found]
        means = [gain.mean for gain in found]
        panel.errorbar(places, means, stds, fmt="o", ms=3.5, lw=1, color=colour, label=label)
        if len(found) == len(names):
            mean = math.fsum(means) / len(means)
            panel.hlines(mean, len(names) - 0.35, len(names) + 0.35, color=colour, linewidth=2.5)
        drawn += len(found)
    _paper(panel, [printed.get(name, math.nan) for name in names])
    if not drawn:
        say_no_record(panel)
    panel.set_ylabel(f"{base}\n+{SUFFIX}", fontsize=8)
    panel.set_xlim(-0.7, len(names) + 0.7)
    for x, (one, other) in enumerate(zip(tasks, [*tasks[1:], None], strict=True)):
        if other is None or one.group != other.group:
            panel.axvline(x + 0.5, color=GREY, linewidth=0.6, linestyle=":")


def _gains(grid: Grid, method: str, rival: str, tasks: list[str]) -> list[stats.Spread | None]:
    """The paired differences of each task over its common seeds."""
    ours, theirs = grid.values(method), grid.values(rival)
    return [
        stats.spread(
            [ours[task][s] - theirs[task][s] for s in sorted(set(ours[task]) & set(theirs[task]))]
        )
        for task in tasks
    ]


def _paper(panel: Axes, printed: list[float]) -> None:
    """The paper's gains, on its data; its mean where it printed all of them."""
    x = range(len(printed))
    panel.scatter(
        x, printed, s=16, marker="D", facecolors="none", edgecolors=GREY, linewidths=0.8,
        label="the paper's, real data, over stage 1",
    )  # fmt: skip
