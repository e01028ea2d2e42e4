"""Figure 1 (b): what the penalty gains on each task."""

from __future__ import annotations

import math
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.spec import Task
from reports import published, stats
from reports.figures.style import BLUE, GREY, NO_RECORD, ORANGE, STYLE, head, legend_below
from reports.published import PublishedRow
from reports.records import Grid
from reports.rivals import CONTROL, base_of
from reports.table import Part

SUFFIX = "linear"


@mpl.rc_context(STYLE)
def gains_by_task(data: Part) -> Figure:
    """Accuracy with R_l less that of the control and of stage 1, by task; bars are std over seeds."""
    benchmark = data.grid.benchmark
    tasks = [t for group in benchmark.groups for t in benchmark.tasks if t.group == group]
    paper = published.load("table2")
    bases = [
        base_of(method) or ""
        for method in data.rows
        if method.endswith(f"+{SUFFIX}") and paper.row(method)
    ]
    figure = Figure(figsize=(9.6, 1.2 + 1.75 * max(1, len(bases))), layout="constrained")
    panels = figure.subplots(max(1, len(bases)), 1, sharex=True, squeeze=False)[:, 0]
    has_note = False
    for panel, base in zip(panels, bases, strict=False):
        note = _panel(panel, data.grid, base, tasks, paper.row(f"{base}+{SUFFIX}"))
        _write_above(panel, note, len(tasks) + 0.7, "right")
        has_note |= panel is panels[0] and note != ""
    for group, label in benchmark.groups.items():
        places = [x for x, task in enumerate(tasks) if task.group == group]
        # The groups' names stand a line higher if there is a note below them.
        text = f"{label}\n" if has_note else label
        _write_above(panels[0], text, math.fsum(places) / max(1, len(places)), "center")
    labels = [*(task.label for task in tasks), "mean"]
    panels[-1].set_xticks(
        range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor"
    )
    legend_below(figure)
    head(figure, data, "Gain of $R_l$ by task, in points: mean over seeds, bars ± std where n > 1")
    return figure


def _panel(
    panel: Axes, grid: Grid, base: str, tasks: list[Task], printed: PublishedRow | None
) -> str:
    """Draw one method's gains; return what is missing."""
    panel.axhline(0, color=GREY, linewidth=0.8)
    names = [task.name for task in tasks]
    missing = []
    for rival, label, colour, shift in (
        (f"{base}+{CONTROL}", "over stage 2 without penalty", BLUE, -0.15),
        (base, "over stage 1", ORANGE, 0.15),
    ):
        gains = _gains(grid, f"{base}+{SUFFIX}", rival, names)
        places = [x + shift for x, gain in enumerate(gains) if gain]
        found = [gain for gain in gains if gain]
        stds = [gain.std or 0.0 for gain in found]
        means = [gain.mean for gain in found]
        panel.errorbar(places, means, stds, fmt="o", ms=3.5, lw=1, color=colour, label=label)
        if len(found) == len(names):
            mean = math.fsum(means) / len(means)
            # Side by side, since two means may be the same.
            centre = len(names) + 1.8 * shift
            panel.hlines(mean, centre - 0.17, centre + 0.17, color=colour, linewidth=2.5)
        else:
            missing.append(
                f"{label}: {f'{len(found)} of {len(names)} tasks' if found else NO_RECORD}"
            )
    if printed is not None:
        _paper(panel, printed, names)
    panel.set_ylabel(f"{base}\n+{SUFFIX}", fontsize=8)
    panel.set_xlim(-0.7, len(names) + 0.7)
    for x, (one, other) in enumerate(zip(tasks, [*tasks[1:], None], strict=True)):
        if other is None or one.group != other.group:
            panel.axvline(x + 0.5, color=GREY, linewidth=0.6, linestyle=":")
    return " · ".join(missing)


def _gains(grid: Grid, method: str, rival: str, tasks: list[str]) -> list[stats.Spread | None]:
    """The paired differences of each task over its common seeds."""
    ours, theirs = grid.values(method), grid.values(rival)
    return [
        stats.spread(
            [ours[task][s] - theirs[task][s] for s in sorted(set(ours[task]) & set(theirs[task]))]
        )
        for task in tasks
    ]


def _paper(panel: Axes, printed: PublishedRow, tasks: list[str]) -> None:
    """The paper's gains and their mean as it printed them, which is on other data at an embedded scale."""
    gains = [float(printed.cells.get(task, math.nan)) for task in tasks]
    panel.scatter(
        range(len(tasks) + 1), [*gains, float(printed.all_set_average)], s=16, marker="D",
        facecolors="none", edgecolors=GREY, linewidths=0.8, label="paper, real data, over stage 1",
    )  # fmt: skip


def _write_above(panel: Axes, text: str, x: float, align: Literal["center", "right"]) -> None:
    panel.text(
        x, 1.02, text, ha=align, va="bottom", fontsize=8, color=GREY,
        transform=panel.get_xaxis_transform(),
    )  # fmt: skip
