"""Draws the figures of ``resora/METHOD.md`` from what was measured."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from resora.figures.measure import FRACTIONS, OPTIONS, Measured
from resora.figures.setting import RANK, WIDTH, mean_over_pairs
from resora.figures.theory import nonlinear_floor, welch

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, BLACK, GREY = "#56B4E9", "#D55E00", "#000000", "#888888"
STYLE: Any = {
    "svg.hashsalt": "resora",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
VARIANTS = {
    "signed": ("signed, as printed", RED, "-"),
    "absolute": ("absolute", ORANGE, "--"),
    "squared": ("squared", BLUE, "-"),
}
EUCLIDEAN = {
    "fixed": ("R_e, fixed β", RED, "-"),
    "auto": ("R_e, β = 1 / mean distance", ORANGE, "--"),
    "linear": ("R_l", BLUE, "-"),
}
PER_PAIR = "value per pair"

Line = Callable[[float], float]


def draw(measured: Measured) -> Iterator[tuple[str, bytes]]:
    """Yield each figure's name and the bytes of its PNG."""
    for function in (moves, cosine, euclidean, gauge, floors):
        with mpl.rc_context(STYLE):
            target = io.BytesIO()
            function(measured).savefig(target, format="png", metadata={"Software": None}, dpi=150)
        yield function.__name__, target.getvalue()


def moves(measured: Measured) -> Figure:
    """The shares of the gradient, by penalty and parameter."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    panel = figure.subplots()
    rows = [measured.curves[f"moves {name}"] for name in OPTIONS]
    panel.imshow(rows, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for y, row in enumerate(rows):
        for x, share in enumerate(row):
            text = "0" if share == 0 else f"{100 * share:.0f} %"
            panel.text(
                x, y, text, ha="center", va="center", color="white" if share > 0.6 else BLACK
            )
    columns = (
        "A\nof this layer",
        "B\nof this layer",
        "A\nof earlier layers",
        "B\nof earlier layers",
    )
    panel.set_xticks(range(4), columns)
    panel.set_yticks(range(len(rows)), list(OPTIONS), family="monospace", fontsize=8)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xticks([k + 0.5 for k in range(3)], minor=True)
    panel.set_yticks([k + 0.5 for k in range(len(rows) - 1)], minor=True)
    panel.grid(which="minor", color="white", linewidth=2)
    panel.tick_params(which="minor", length=0)
    figure.suptitle("Share of the gradient that each penalty sends to each parameter", fontsize=9)
    return figure


def cosine(measured: Measured) -> Figure:
    """The three cosines minimised on B: the signed one makes the directions redundant."""
    figure = Figure(figsize=(8.8, 3.1), layout="constrained")
    line, *maps, bars = figure.subplots(1, 4, width_ratios=(1.25, 0.8, 0.8, 1.0))
    for variant, (label, colour, style) in VARIANTS.items():
        trace = measured.curves[f"cosine.r8.{variant}"]
        line.plot(trace, color=colour, linestyle=style, label=label)
    _axes(line, "Adam step on B", "mean |cos(bᵢ, bⱼ)|", "redundancy of B, r = 8")
    line.set_ylim(-0.02, 1)
    line.legend(frameon=False, fontsize=8)
    for panel, variant in zip(maps, ("signed", "squared"), strict=True):
        _matrix(panel, measured.matrices[f"cosine.r8.{variant}"].abs(), f"|cos| after {variant}")
    for offset, variant in ((-0.2, "signed"), (0.2, "squared")):
        label, colour, _ = VARIANTS[variant]
        values = measured.curves[f"cosine.r8.{variant}.singular"]
        places = [k + 1 + offset for k in range(len(values))]
        bars.bar(places, values, 0.4, color=colour, label=label)
    bars.set_xticks(range(1, RANK + 1))
    _axes(bars, "singular value of B", "size (columns of length 1)", "directions left")
    bars.legend(frameon=False, fontsize=8)
    return figure


def euclidean(measured: Measured) -> Figure:
    """R_e against the size of the update, and over its minimisation."""
    figure = Figure(figsize=(8.8, 3.3), layout="constrained")
    scale, alike, norm = figure.subplots(1, 3)
    for name, (label, colour, style) in EUCLIDEAN.items():
        common: dict[str, Any] = {"color": colour, "linestyle": style, "label": label}
        scale.plot(measured.curves["scale"], measured.curves[f"scale {name}"], **common)
        alike.plot(measured.curves[f"descent common.{name}.cos2"], **common)
        norm.plot(measured.curves[f"descent common.{name}.norm"], **common)
    scale.set_xscale("log")
    scale.set_xticks([1, 10], ["×1", "×10"])
    norm.set_yscale("log")
    ticks = (1, 2, 5)
    norm.set_yticks(ticks, [f"×{k}" for k in ticks])
    norm.yaxis.minorticks_off()
    _axes(scale, "all features multiplied by", PER_PAIR, "growing the features lowers R_e")
    _axes(alike, "Adam step on A and B", "mean cos²(zᵢ, zⱼ)", "descending R_e: activations alike")
    _axes(norm, "Adam step on A and B", "|ΔW| over its start", "descending R_e: a larger update")
    scale.set_ylim(0, 0.6)
    alike.set_ylim(-0.02, 1.02)
    handles, labels = scale.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def gauge(measured: Measured) -> Figure:
    """The same update in two factorisations, and the training of each."""
    figure = Figure(figsize=(8.8, 3.1), layout="constrained")
    *maps, value, error = figure.subplots(1, 4, width_ratios=(0.8, 0.8, 1.1, 1.1))
    for panel, name, title in zip(
        maps, ("before", "after"), ("one factorisation", "another, same ΔW"), strict=True
    ):
        matrix = measured.matrices[f"gauge.{name}"]
        _matrix(panel, matrix, f"{title}\ncos²(zᵢ, zⱼ), mean {mean_over_pairs(matrix):.2f}")
    for name, (label, colour, style) in {
        "plain": ("from the first", ORANGE, "-"),
        "white": ("from the second", GREEN, "--"),
        "linear": ("from the first, with R_l", BLUE, "-"),
    }.items():
        common: dict[str, Any] = {"color": colour, "linestyle": style, "label": label}
        value.plot(measured.curves[f"gauge {name}.value"], **common)
        error.plot(measured.curves[f"gauge {name}.error"], **common)
    error.set_yscale("log")
    _axes(value, "Adam step on the task", "R_l per pair", "redundancy")
    _axes(error, "Adam step on the task", "task error, relative", "fit of the task")
    value.set_ylim(-0.01, 0.4)
    handles, labels = value.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False)
    return figure


def floors(measured: Measured) -> Figure:
    """The penalties of independent subspaces, by the number of samples and by a shared mean."""
    figure = Figure(figsize=(8.8, 4.3), layout="constrained")
    panel, shared = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _by_samples(panel, measured)
    for name, label, colour, style in (
        ("token", "tokens, N = 32 × 196", BLUE, "-"),
        ("image", "images (mean of 196 tokens), N = 32", RED, "-"),
        ("token centred", "tokens, centred", SKY, "--"),
        ("image centred", "images, centred", ORANGE, "--"),
    ):
        values = measured.curves[f"mean {name}"]
        shared.plot(measured.curves["mean"], values, color=colour, linestyle=style, label=label)
    _axes(
        shared,
        "mean of every activation, in standard deviations",
        "R_l per pair",
        "independent subspaces with a mean",
    )
    shared.set_ylim(-0.02, 1.02)
    for it in (panel, shared):
        it.legend(
            frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2
        )
    return figure


def _by_samples(panel: Axes, measured: Measured) -> None:
    fine = [2 ** (1 + k / 8) for k in range(65)]
    lines: dict[str, tuple[str, str, str, Line]] = {
        "euclidean": ("R_e, β = 1 / mean distance: 1/2", RED, "v", lambda n: 0.5)
    }
    for fraction, colour, marker in zip(FRACTIONS, (PINK, GREEN, SKY), "s^D", strict=True):
        line: Line = partial(nonlinear_floor, fraction=fraction)
        lines[f"nonlinear {fraction:g}"] = (f"R_n, fraction {fraction:g}", colour, marker, line)
    lines["linear"] = ("R_l: 1/N", BLUE, "o", lambda n: 1 / n)
    lines["cosine squared"] = (f"R_c, squared: 1/d, d = {WIDTH}", ORANGE, "P", lambda n: 1 / WIDTH)
    for name, (label, colour, marker, line) in lines.items():
        panel.plot(fine, [line(n) for n in fine], color=colour, linewidth=1)
        values = measured.curves[f"floor {name}"]
        panel.plot(
            measured.curves["floor N"], values, marker, color=colour, markersize=4, label=label
        )
    few = [n for n in fine if n < RANK]
    panel.plot(
        few,
        [welch(n, RANK) for n in few],
        color=BLACK,
        linestyle=":",
        label=f"lowest possible R_l, r = {RANK}",
    )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_ylim(1.5e-3, 1.3)
    panel.set_xticks([2, 8, 32, 128, 512], ["2", "8", "32", "128", "512"])
    _axes(panel, "samples N", PER_PAIR, "independent subspaces without a mean")


def _axes(panel: Axes, x: str, y: str, title: str) -> None:
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.set_title(title, fontsize=9)
    panel.grid(color="#eeeeee")


def _matrix(panel: Axes, matrix: Tensor, title: str) -> None:
    panel.imshow(matrix.numpy(), cmap="Blues", vmin=0, vmax=1)
    panel.set_xticks([0, RANK - 1], ["1", str(RANK)])
    panel.set_yticks([0, RANK - 1], ["1", str(RANK)])
    panel.tick_params(length=0)
    panel.set_title(title, fontsize=9)
