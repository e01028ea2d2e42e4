"""Places names beside points so that no name lies on another, or on a point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

FONT = 7
STEPS, ANGLES = (7, 13, 20, 28, 38, 50, 64), 16
"""Distances to try, in points, and directions; a line leads to a name that lies far away."""


def place(panel: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write each name at the nearest free place around its point.

    The figure's layout is fixed by this: call it when all else is drawn.
    """
    figure = panel.figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    figure.set_layout_engine("none")  # type: ignore[union-attr]
    pixels = figure.dpi / 72
    dots = [tuple(panel.transData.transform(point)) for point in points]
    taken = [
        Bbox.from_bounds(x - 4 * pixels, y - 4 * pixels, 8 * pixels, 8 * pixels) for x, y in dots
    ]
    inside = panel.get_window_extent(renderer)
    for (x, y), point, name in zip(dots, points, names, strict=True):
        text = panel.text(0, 0, name, fontsize=FONT)
        size = text.get_window_extent(renderer)
        text.remove()
        dx, dy = _free(x, y, size.width, size.height, pixels, taken, inside)
        far = math.hypot(dx, dy) > 16
        panel.annotate(
            name,
            point,
            (dx, dy),
            textcoords="offset points",
            fontsize=FONT,
            ha="center",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4},
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#888888"} if far else None,
        )
        taken.append(_box(x + dx * pixels, y + dy * pixels, size.width, size.height))


def _free(
    x: float, y: float, width: float, height: float, pixels: float, taken: list[Bbox], inside: Bbox
) -> tuple[float, float]:
    """The offset, in points, of the first place that is free; the last one tried if none is."""
    offset = (0.0, 0.0)
    for step, angle in itertools.product(STEPS, range(ANGLES)):
        turn = 2 * math.pi * angle / ANGLES
        # A name is wide: beside the point it needs half its width more than above it.
        dx = math.cos(turn) * (step + width / 2 / pixels)
        dy = math.sin(turn) * (step + height / 2 / pixels)
        offset = (dx, dy)
        box = _box(x + dx * pixels, y + dy * pixels, width, height)
        within = (
            box.x0 >= inside.x0
            and box.x1 <= inside.x1
            and box.y0 >= inside.y0
            and box.y1 <= inside.y1
        )
        if within and not any(box.overlaps(other) for other in taken):
            return offset
    return offset


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
