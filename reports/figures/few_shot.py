"""Figure 3, accuracy over shots, one panel a data set; and, our own, the penalty's gain over shots."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from reports.figures.style import (
    BLUE,
    COLOURS,
    GREY,
    NO_RECORD,
    ORANGE,
    STYLE,
    head,
    legend_below,
    say_no_record,
)
from reports.published.few_shot import GAIN, METHODS
from reports.rivals import CONTROL, control_of
from reports.table import Number, Part, sets_of

SIZE = 9.6, 5.9
ByShots = Mapping[int, Number | None]
"""The line of a table by the number of shots."""
DRAWN = tuple(dict.fromkeys((*METHODS, *(control_of(m) or m for m in METHODS))))
"""What the paper draws, and the control of each penalty."""
LINES = {None: "--", CONTROL: ":"}


@mpl.rc_context(STYLE)
def accuracy_over_shots(data: Part) -> Figure:
    """Mean and std over seeds; dashed: stage 1, dotted: stage 2 without the penalty, solid: with it."""
    figure = Figure(figsize=SIZE, layout="constrained")
    panels: list[Axes] = list(figure.subplots(2, 3, sharex=True).flat)
    methods = [method for method in DRAWN if method in data.rows]
    shots = _shots(data)
    sets = sets_of(data)
    for panel, label in zip(panels, sets, strict=False):
        at = {
            task.name: shots[task.group]
            for task in data.grid.benchmark.tasks
            if task.label == label
        }
        spreads = {
            method: {n: data.at(method, "task", task) for task, n in at.items()}
            for method in methods
        }
        _curves(panel, spreads, NO_RECORD)
        panel.set_title(label, fontsize=9)
    means = {
        method: {n: data.at(method, "group_mean", group) for group, n in shots.items()}
        for method in methods
    }
    # A mean with a hole is a hole.
    has_any = any(panel.lines for panel in panels)
    _curves(panels[len(sets)], means, "a set lacks records" if has_any else NO_RECORD)
    panels[len(sets)].set_title(f"mean of the {len(sets)} sets", fontsize=9, fontweight="bold")
    for panel in panels:
        _axis(panel, list(shots.values()))
    panels[4].set_xlabel("training images a class")
    figure.supylabel("top-1 accuracy, %", fontsize=9)
    legend_below(figure)
    head(figure, data, "Few-shot accuracy over shots: mean, band ± std over seeds")
    return figure


@mpl.rc_context(STYLE)
def gain_over_shots(data: Part) -> Figure:
    """What the penalty gains at each number of shots, mean of the sets, with the 95 % interval."""
    penalised = [method for method in data.rows if control_of(method)]
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(penalised), sharey=True, squeeze=False)[0]
    groups, shots = list(_shots(data)), list(_shots(data).values())
    for panel, method in zip(panels, penalised, strict=True):
        panel.axhspan(
            *map(float, GAIN), color=GREY, alpha=0.15, lw=0, label="paper, real data, over stage 1"
        )
        panel.axhline(0, color=GREY, linewidth=0.8)
        for over, label, colour, shift in (
            ("control", "over stage 2 without penalty", BLUE, 0.96),
            ("base", "over stage 1", ORANGE, 1.04),
        ):
            found = [data.at(method, "delta", f"{group}_over_{over}") for group in groups]
            at = [
                (n * shift, gain.value, gain)
                for n, gain in zip(shots, found, strict=True)
                if gain and gain.value is not None
            ]
            means = [value for _, value, _ in at]
            # Without an interval there is a point alone.
            below = [v - (v if gain.low is None else gain.low) for _, v, gain in at]
            above = [(v if gain.high is None else gain.high) - v for _, v, gain in at]
            if at:
                panel.errorbar(
                    [n for n, _, _ in at], means, [below, above], fmt="o-", ms=3.5, lw=1,
                    color=colour, label=label,
                )  # fmt: skip
        if not panel.containers:
            panel.text(0.5, 0.8, NO_RECORD, ha="center", color=GREY, transform=panel.transAxes)
        panel.set_title(method, fontsize=9)
        panel.set_xlabel("training images a class")
        _axis(panel, shots)
    panels[0].set_ylabel("gain, points")
    legend_below(figure)
    head(
        figure, data, "Gain of $R_l$ over shots: mean of the sets, bars 95 % interval over the sets"
    )
    return figure


def _shots(data: Part) -> dict[str, int]:
    """Training images a class by the name of the group."""
    return {group: int(group.removesuffix("shot")) for group in data.grid.benchmark.groups}


def _curves(panel: Axes, by_method: Mapping[str, ByShots], otherwise: str) -> None:
    bases = list(dict.fromkeys(parse_method(method).base for method in METHODS))
    for method, at in by_method.items():
        known = [one if one and one.value is not None else None for one in at.values()]
        if not any(known):
            continue
        # A line ends where a number is missing.
        means = np.array([one.value if one else math.nan for one in known], dtype=float)
        stds = np.array([(one.std or 0.0) if one else math.nan for one in known])
        colour = COLOURS[bases.index(parse_method(method).base)]
        line = LINES.get(parse_method(method).suffix, "-")
        panel.plot(list(at), means, line, marker="o", ms=3, lw=1.4, color=colour, label=method)
        panel.fill_between(list(at), means - stds, means + stds, color=colour, alpha=0.12, lw=0)
    if not panel.lines:
        say_no_record(panel, otherwise)


def _axis(panel: Axes, shots: list[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(shots, map(str, shots))
    panel.set_xlim(shots[0] / 1.25, shots[-1] * 1.25)
    panel.grid(color="#eeeeee")
