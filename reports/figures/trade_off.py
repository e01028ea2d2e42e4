"""What accuracy costs, and how it goes with redundancy: one point a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from reports.rivals import CONTROL, base_of, control_of
from reports.table import Number, Part

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
MEAN = "mean", "all_set_average"
PARAMS = "params_m", "trainable_without_head"
NO_PARAMETERS = 0.3
"""Where a method without parameters is drawn: so many times the fewest that another has."""


@mpl.rc_context(STYLE)
def cost_accuracy(data: Part, step_times: Sequence[tuple[str, float]] = ()) -> Figure:
    """Mean accuracy over all tasks against trainable parameters without the head; bars ± std over seeds.

    ``step_times``: methods with the time of a training step over that of lora-r8, for a second panel.
    """
    params = {row: data.value(row, *PARAMS) for row in data.rows}
    shown = [
        row for row in data.rows if data.value(row, *MEAN) is not None and params[row] is not None
    ]
    figure, panels = _panels(2 if step_times else 1)
    head(figure, data, "Accuracy against trainable parameters: mean of all tasks")
    sizes = [1e3 * (params[row] or 0.0) for row in shown]
    drawn = [(panels[0], shown, _log_scale(panels[0], sizes))]
    panels[0].set_xlabel("trainable parameters without the head, thousands")
    if step_times:
        times = dict(step_times)
        timed = [row for row in shown if row in times]
        drawn.append((panels[1], timed, [times[row] for row in timed]))
        panels[1].set_xlabel("time of a training step over lora-r8's")
    _say_missing(panels[0], data.in_suite, shown)
    _points(figure, {row: data.at(row, *MEAN) for row in shown}, drawn)
    return figure


@mpl.rc_context(STYLE)
def redundancy_accuracy(*tables: Part) -> Figure:
    """Mean accuracy against mean redundancy at the end, of every method with subspaces.

    Arrows lead from the control, stage 2 without a penalty, to stage 2 with R_l; dotted lines from
    stage 1 to the control.
    """
    of = {method: data for data in tables for method in data.rows}
    tasks = len(tables[0].grid.benchmark.tasks)
    redundancies = {method: redundancy_of_tasks(data.grid, method) for method, data in of.items()}
    # A mean with a hole is a hole.
    at = {
        method: math.fsum(values) / tasks
        for method, values in redundancies.items()
        if len(values) == tasks and of[method].value(method, *MEAN) is not None
    }
    shown = list(at)
    figure, panels = _panels(1)
    title = "Accuracy against redundancy after training; arrows: from the control to $R_l$"
    head(figure, tables[0], title)
    panels[0].set_xlabel("mean cos² between subspaces, at the end")
    _say_missing(
        panels[0],
        # Only a method with subspaces has a second stage.
        [
            method
            for method, data in of.items()
            if data.grid.of(method) and (redundancies[method] or base_of(method))
        ],
        shown,
    )
    means = {method: of[method].at(method, *MEAN) for method in shown}
    _points(figure, means, [(panels[0], shown, list(at.values()))], _arrows(panels[0], means, at))
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


def _say_missing(panel: Axes, rows: Sequence[str], shown: Sequence[str]) -> None:
    """Name below a panel's axis the methods of the suite that have no point, if others have one."""
    missing = [row for row in rows if row not in shown]
    if shown and missing:
        text = f"not drawn, since a task has no record: {', '.join(missing)}"
        panel.annotate(
            fill(text, 110, break_on_hyphens=False), (0.5, 0), (0, -32), xycoords="axes fraction",
            textcoords="offset points", ha="center", va="top", fontsize=7, color=GREY,
        )  # fmt: skip


def _points(
    figure: Figure,
    means: Mapping[str, Number | None],
    drawn: Sequence[tuple[Axes, Sequence[str], Sequence[float]]],
    arrows: Sequence[tuple[Point, Point]] = (),
) -> None:
    """Draw each panel's rows at their places, with their names beside points and arrows."""
    named = []
    for panel, rows, x in drawn:
        points, labelled = [], set()
        for row, place in zip(rows, x, strict=True):
            found = means[row]
            assert found is not None
            assert found.value is not None
            kind = KINDS.get(parse_method(row).suffix or "", PENALISED)
            label = None if kind["label"] in labelled else kind["label"]
            mean, std = found.value, found.std or 0.0
            panel.errorbar(place, mean, std, lw=1, **(kind | {"label": label}))
            labelled.add(kind["label"])
            points.append((place, mean))
        if not rows:
            panel.set_xticks([])
            say_no_record(panel)
        named.append((panel, points, list(rows)))
    legend_below(figure)
    for panel, points, names in named:
        labels.place(panel, points, names, arrows)


def _arrows(
    panel: Axes, means: Mapping[str, Number | None], x: Mapping[str, float]
) -> list[tuple[Point, Point]]:
    """Draw what stage 2 made of each method, alone and with R_l; return the ends of the lines."""
    drawn = []
    at = {row: (x[row], found.value) for row, found in means.items() if found and found.value}
    for method, point in at.items():
        suffix = parse_method(method).suffix
        start = at.get((base_of(method) if suffix == CONTROL else control_of(method)) or "")
        if start is None or suffix not in (CONTROL, "linear"):
            continue
        style = {"arrowstyle": "->", "lw": 0.8, "color": GREEN, "alpha": 0.7}
        if suffix == CONTROL:
            style = {"arrowstyle": "-", "lw": 0.8, "color": ORANGE, "linestyle": ":"}
        panel.annotate("", point, start, arrowprops=style)
        drawn.append((start, point))
    return drawn
