"""What all figures share: colours, encoding, the heading that says what the numbers are."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from reports.layout import warning
from reports.records import Grid
from reports.table import Part

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#888888")
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY = COLOURS
STYLE: Any = {
    "svg.hashsalt": "resora",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
DPI = 150
PENALTIES = ("linear", "nonlinear", "euclidean", "cosine")
NO_RECORD = "no record"


def encode(figure: Figure, formats: Iterable[str]) -> dict[str, bytes]:
    """The figure's bytes by format; nothing in them depends on when they are made."""
    with mpl.rc_context(STYLE):
        # Laid out once: each file would do it again, which takes longer than drawing. By the canvases,
        # since `Figure.savefig` draws everything twice.
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return {name: ENCODERS[name](figure) for name in formats}


def _png(figure: Figure) -> bytes:
    """The picture in 256 colours: it looks the same, and the file has a third of the size."""
    canvas, target = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    # Maximum coverage keeps rare colours; dithering would put grain into plain areas.
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(
        256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).save(target, format="png", optimize=True)
    return target.getvalue()


def _svg(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})
    return target.getvalue()


ENCODERS: dict[str, Callable[[Figure], bytes]] = {"png": _png, "svg": _svg}


def head(figure: Figure, data: Part, title: str) -> None:
    """Write above a figure what it shows, and what its numbers must not be taken for."""
    text = fill(
        f"{title} · scale {data.grid.scale.name}, {data.grid.backbone}", _characters(figure)
    )
    if caution := warning(data):
        text += "\n" + fill(caution, _characters(figure))
    if data.grid.has_drafts:
        text += "\nDRAFT: some of the records are not final."
    figure.suptitle(text, fontsize=9)


def _characters(figure: Figure) -> int:
    return int(figure.get_figwidth() * 14)


def legend_below(figure: Figure) -> None:
    """One legend for all panels: what any of them draws, once, in the order of its first panel."""
    series: dict[str, Any] = {}
    for panel in figure.axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            series.setdefault(name, handle)
    if series:
        figure.legend(
            list(series.values()),
            list(series),
            ncols=4,
            loc="outside lower center",
            frameon=False,
            fontsize=8,
        )


def say_no_record(panel: Axes, text: str = NO_RECORD) -> None:
    """Write in the middle of a panel that there is nothing to draw, and take its scale away."""
    panel.set_yticks([])
    panel.text(
        0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=8, transform=panel.transAxes
    )


def redundancy_of_tasks(grid: Grid, method: str) -> list[float]:
    """The redundancy over all adapted matrices at the end of training: of each task, mean over seeds."""
    by_task = grid.values(method, "redundancy_end").values()
    return [math.fsum(of.values()) / len(of) for of in by_task if of]
