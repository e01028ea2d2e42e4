"""CLEVR: solids on a table, seen from above; how many there are, and how near the nearest is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

FEWEST, MOST = 3, 10
# Edges of the six classes of distance: label = the last edge below the nearest object's distance.
EDGES = np.asarray([2.8, 3.25, 3.8, 4.45, 5.25, 6.25, 7.2], dtype=np.float32)
FARTHEST = 9.0
HORIZON = -0.9
TABLE = 5.0  # how fast the table falls away below the horizon
SWAY = 0.1  # the camera tilts by so much from picture to picture
TRIES = 24

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Things:
    """Objects of every image, fields (N, MOST), from far to near; not all are present."""

    present: npt.NDArray[np.bool_]
    x: Array
    y: Array
    radius: Array
    distance: Array


def arrange(rng: Rng, counts: Labels, nearest: Array | None = None) -> Things:
    """Place objects on the table so that none hides another.

    Args:
        rng: random stream.
        counts: number of objects of each image.
        nearest: distance of the nearest object of each image; free if not given.
    """
    n = len(counts)
    present = np.arange(MOST)[None] < counts[:, None]
    size = np.where(rng.random((n, MOST)) < 0.5, 0.65, 0.95)
    tilt = HORIZON + rng.uniform(-SWAY, SWAY, (n, 1))
    low = np.full(n, EDGES[0]) if nearest is None else nearest
    x, y, radius, distance = (np.zeros((n, MOST)) for _ in range(4))
    for k in range(MOST):
        share = rng.random((n, TRIES))  # even over the picture: even in the inverse of the distance
        far = 1.0 / ((1.0 - share) / low[:, None] + share / FARTHEST)
        if nearest is not None and k == 0:
            far[:] = nearest[:, None]
        r = size[:, k : k + 1] / far
        cx = rng.uniform(-0.95, 0.95, (n, TRIES)) * (1.0 - 0.9 * r)
        cy = tilt + TABLE / far - r
        gap = np.full((n, TRIES), np.inf)
        for j in range(k):
            between = np.hypot(cx - x[:, j : j + 1], cy - y[:, j : j + 1])
            gap = np.minimum(gap, between / (r + radius[:, j : j + 1]))
        fits = gap > 1.02
        pick = np.where(fits.any(axis=1), fits.argmax(axis=1), gap.argmax(axis=1))[:, None]
        for target, source in ((x, cx), (y, cy), (radius, r), (distance, far)):
            target[:, k] = np.take_along_axis(source, pick, axis=1)[:, 0]
    order = np.argsort(-distance, axis=1)
    fields = [np.take_along_axis(a, order, axis=1) for a in (present, x, y, radius, distance)]
    floats = [a.astype(np.float32) for a in fields[1:]]
    return Things(fields[0].astype(bool), floats[0], floats[1], floats[2], floats[3])


def distance_class(distance: Array) -> Labels:
    """Return the class of a nearest distance."""
    return np.asarray(np.searchsorted(EDGES[1:-1], distance, side="left"), dtype=np.int64)


def _solid(kind: int, u: Array, v: Array) -> Array:
    """Distance (first) and brightness (second) of a ball, a cube or a cylinder: (2, N, S, S)."""
    if kind == 0:
        rr = np.minimum(u * u + v * v, 1.0)
        nz = np.sqrt(1.0 - rr)
        tone = 0.35 + 0.75 * np.maximum(-0.45 * u - 0.6 * v + 0.65 * nz, 0.0)
        return np.stack([draw.sdf_disc(u, v, 0.95), tone])
    if kind == 1:
        top = v < -0.577 * np.abs(u)
        tone = np.where(top, 1.15, np.where(u < 0, 0.8, 0.45))
        return np.stack([draw.sdf_polygon(u, v, 6, 1.02), tone])
    body = draw.sdf_box(u, v, 0.75, 0.65)
    base = draw.sdf_ellipse(u, v - 0.65, 0.75, 0.3)
    lid = draw.sdf_ellipse(u, v + 0.65, 0.75, 0.3)
    tone = np.where(lid < 0, 1.15, 0.75 - 0.4 * u)
    return np.stack([np.minimum(np.minimum(body, base), lid), tone])


def render(rng: Rng, things: Things) -> tuple[Images, Index]:
    """Draw the objects; return the images and which object owns each pixel (-1: none)."""
    n = len(things.x)
    gx, gy = brush.axes()
    grey = brush.tint(rng, n, sat=(0.0, 0.12), val=(0.4, 0.75))
    canvas = draw.background(n, grey, draw.SIZE)
    draw.shade(canvas, np.broadcast_to(0.85 + 0.2 * gy, (n, draw.SIZE, draw.SIZE)))
    owner = np.full((n, draw.SIZE, draw.SIZE), -1, dtype=np.int64)
    kinds = rng.integers(0, 3, (n, MOST))
    hues = rng.integers(0, 8, (n, MOST)) / 8.0
    metal = rng.random((n, MOST)) < 0.5
    for k in range(MOST):
        rows = np.flatnonzero(things.present[:, k])
        if not len(rows):
            continue
        m, r = len(rows), things.radius[rows, k]
        u, v = draw.to_local(gx, gy, things.x[rows, k], things.y[rows, k], 0.0, r)
        part = np.empty((m, 2, draw.SIZE, draw.SIZE), dtype=np.float32)
        for kind in range(3):
            own = np.flatnonzero(kinds[rows, k] == kind)
            part[own] = _solid(kind, u[own], v[own]).transpose(1, 0, 2, 3)
        shadow = brush.alpha(draw.sdf_ellipse(u - 0.3, v - 0.75, 1.15, 0.4), r, 4 * brush.PIXEL)
        colour = draw.hsv_to_rgb(hues[rows, k], np.where(metal[rows, k], 0.85, 0.6), 0.8)
        colour[hues[rows, k] == 0.875] = (0.35, 0.35, 0.35)
        tone = np.where(
            metal[rows, k, None, None], 1.2 * np.maximum(part[:, 1], 0.0) ** 1.8, part[:, 1]
        )
        cover = brush.alpha(part[:, 0], r)
        view = canvas[rows]
        draw.paint(view, 0.35 * shadow, (0.05, 0.05, 0.05))
        draw.paint(view, cover, draw.as_colour(colour) * tone[..., None])
        canvas[rows] = view
        owner[rows] = np.where(cover > 0.5, k, owner[rows])
    return brush.expose(rng, canvas, grain=0.02), owner


def clevr_count(rng: Rng, labels: Labels, split: str) -> Images:
    """Three to ten objects; the label is their number less three."""
    return render(rng, arrange(rng, labels + FEWEST))[0]


def clevr_dist(rng: Rng, labels: Labels, split: str) -> Images:
    """Some objects; the label is the class of the nearest one's distance."""
    return render(rng, near_scene(rng, labels))[0]


def near_scene(rng: Rng, labels: Labels) -> Things:
    """Arrange three to ten objects of which the nearest has the labelled class of distance."""
    counts = rng.integers(FEWEST, MOST + 1, len(labels))
    low, high = EDGES[labels], EDGES[labels + 1]
    margin = 0.04 * (high - low)
    nearest = rng.uniform(low + margin, high - margin).astype(np.float32)
    return arrange(rng, counts, nearest)
