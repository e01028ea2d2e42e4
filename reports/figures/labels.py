"""Places names beside points so that no name lies on another, or on a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

Point: TypeAlias = tuple[float, float]
Array: TypeAlias = npt.NDArray[np.float64]

FONT = 7
STEPS, ANGLES = (7, 10, 13, 16, 20, 24, 28, 33, 38, 44, 50, 57, 64), 24
"""Distances to try, in points, and directions."""
NEAR = 7
"""A line leads to a name that lies farther from its point."""
MARKER = 8
"""Width of what is kept free around a point, in points."""
ON_SOMETHING, ON_LINE, LINE_ON_NAME, LINE_ON_POINT, BY_ANOTHER = 1000, 20, 60, 30, 2
"""What is as bad as so many points of distance: a name on a name or a point; a name on a line; the line
to a name on another name, or on another point; a name beside another point."""


def place(
    panel: Axes,
    points: Sequence[Point],
    names: Sequence[str],
    lines: Sequence[tuple[Point, Point]] = (),
) -> None:
    """Write each name at a free place near its point, rather not on one of ``lines``.

    The figure's layout is fixed by this: call it when all else is drawn.
    """
    if not points:
        return
    figure = panel.figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    figure.set_layout_engine("none")  # type: ignore[union-attr]
    scale = 72 / figure.dpi
    sizes = []
    for name in names:
        text = panel.text(0, 0, name, fontsize=FONT)
        size = text.get_window_extent(renderer)
        text.remove()
        # Letters have another width at another resolution: hence a margin.
        sizes.append((scale * size.width + 1, scale * size.height + 1))
    ends = [panel.transData.transform(line) * scale for line in lines]
    offsets, steps = _arrange(
        panel.transData.transform(points) * scale,
        np.array(sizes),
        np.array(ends).reshape(-1, 2, 2),
        np.array(panel.get_window_extent(renderer).padded(-3).extents) * scale,
    )
    for name, point, offset, step in zip(names, points, offsets, steps, strict=True):
        panel.annotate(
            name,
            point,
            (float(offset[0]), float(offset[1])),
            textcoords="offset points",
            fontsize=FONT,
            ha="center",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.4},
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#888888"} if step > NEAR else None,
        )


def _arrange(dots: Array, sizes: Array, lines: Array, inside: Array) -> tuple[Array, Array]:
    """Offsets and distances of names, all in points.

    Args:
        dots: (n, 2), what is named.
        sizes: (n, 2), width and height of each name.
        lines: (m, 2, 2), start and end of what else is drawn.
        inside: (4,), the panel.
    """
    # A name that has no place yet is nowhere: nothing compares with NaN.
    offsets, steps = np.full_like(dots, np.nan), np.full(len(dots), np.nan)
    points = _boxes(dots, np.full_like(dots, MARKER))
    # From top to bottom: names are wide, so it is above and below that they compete.
    for index in np.argsort(-dots[:, 1], kind="stable"):
        tried, distances = _places(sizes[index])
        centres = dots[index] + tried
        boxes = _boxes(centres, np.broadcast_to(sizes[index], centres.shape))
        names = _boxes(dots + offsets, sizes)
        leaders = np.stack([dots, dots + offsets], axis=1)[steps > NEAR]
        own = np.stack([np.broadcast_to(dots[index], centres.shape), centres], axis=1)
        elsewhere = points[~_overlap(points[index : index + 1], points)[0]]
        on = _overlap(boxes, names).sum(1) + _overlap(boxes, points).sum(1) + _beyond(boxes, inside)
        on_lines = _cross(np.concatenate([lines, leaders]), boxes).sum(0)
        led = LINE_ON_NAME * _cross(own, names).sum(1)
        led += LINE_ON_POINT * _cross(own, elsewhere).sum(1)
        beside = _overlap(_boxes(centres, sizes[index] + np.full_like(centres, MARKER)), elsewhere)
        cost = distances + led * (distances > NEAR) + BY_ANOTHER * beside.sum(1)
        cost += ON_SOMETHING * on + ON_LINE * on_lines
        best = int(np.argmin(cost))
        offsets[index], steps[index] = tried[best], distances[best]
    return offsets, steps


def _places(size: Array) -> tuple[Array, Array]:
    """The offsets to try for a name of a size, nearest first, and their distances."""
    distances = np.repeat(np.array(STEPS, dtype=float), ANGLES)
    angles = np.tile(2 * math.pi * np.arange(ANGLES) / ANGLES, len(STEPS))
    # A name is wide: beside the point it needs half its width more than above it.
    reach = distances[:, None] + size / 2
    return reach * np.stack([np.cos(angles), np.sin(angles)], axis=1), distances


def _boxes(centres: Array, sizes: Array) -> Array:
    """(n, 4): left, bottom, right, top."""
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _overlap(boxes: Array, others: Array) -> npt.NDArray[np.bool_]:
    """(n, m): which boxes lie on which."""
    one, other = boxes[:, None], others[None]
    shared = (one[..., :2] < other[..., 2:]) & (other[..., :2] < one[..., 2:])
    return np.asarray(shared.all(-1))


def _beyond(boxes: Array, inside: Array) -> npt.NDArray[np.bool_]:
    """(n,): which boxes lie partly outside."""
    return np.asarray(((boxes[:, :2] < inside[:2]) | (boxes[:, 2:] > inside[2:])).any(-1))


def _cross(lines: Array, boxes: Array) -> npt.NDArray[np.bool_]:
    """(n, m): which lines go through which boxes."""
    start, way = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    # Where along the line, from 0 to 1, it meets each pair of the box's sides.
    low, high = (boxes[None, :, :2] - start) / way, (boxes[None, :, 2:] - start) / way
    enters, leaves = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    return np.asarray((enters <= leaves) & (leaves >= 0) & (enters <= 1))
