"""dSprites: where a white sprite lies, and how it is turned."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

BINS = 16
REACH = 0.68  # sprites' centres lie in [-REACH, REACH]


def position_bin(x: Array) -> Labels:
    """Return the bin of a horizontal position in [-REACH, REACH]."""
    return np.floor((x + REACH) / (2 * REACH) * BINS).astype(np.int64)


def _in_bin(rng: Rng, labels: Labels) -> Array:
    """Draw a number in [0, 1) that falls in the labelled one of the bins."""
    return ((labels + rng.uniform(0.02, 0.98, len(labels))) / BINS).astype(np.float32)


def _symmetric(kind: int, u: Array, v: Array) -> Array:
    """Square, ellipse or heart, as in dSprites, each about its centroid."""
    if kind == 0:
        return draw.sdf_box(u, v, 0.75, 0.75)
    if kind == 1:
        return draw.sdf_ellipse(u, v, 0.95, 0.55)
    return draw.sdf_radial(u, v, brush.heart_contour())


def _pointing(kind: int, u: Array, v: Array) -> Array:
    """Heart, drop or flag: sprites whose orientation shows over the full turn."""
    if kind == 0:
        return draw.sdf_radial(u, v, brush.heart_contour())
    if kind == 1:
        return draw.sdf_radial(u, v, brush.drop_contour())
    pole = draw.sdf_box(u + 0.25, v - 0.1, 0.16, 0.95)
    cloth = draw.sdf_box(u - 0.2, v + 0.45, 0.5, 0.4)
    return np.minimum(pole, cloth)


def dsprites_loc(rng: Rng, labels: Labels, split: str) -> Images:
    """One sprite; the label is the bin of its horizontal position."""
    n = len(labels)
    cx = REACH * (2 * _in_bin(rng, labels) - 1)
    cy = brush.uniform(rng, (-REACH, REACH), n)
    angle = brush.uniform(rng, (0, 2 * np.pi), n)
    scale = brush.uniform(rng, (0.14, 0.3), n)
    u, v = draw.to_local(*brush.axes(), cx, cy, angle, scale)
    sdf = brush.by_kind(rng.integers(0, 3, n), lambda k, rows: _symmetric(k, u[rows], v[rows]))
    canvas = draw.background(n, size=draw.SIZE)
    draw.paint(canvas, brush.alpha(sdf, scale), (1.0, 1.0, 1.0))
    return draw.to_uint8(canvas, factor=1)


def dsprites_ori(rng: Rng, labels: Labels, split: str) -> Images:
    """One sprite; the label is the bin of its orientation, clockwise over the full turn."""
    n = len(labels)
    scale = brush.uniform(rng, (0.36, 0.56), n)
    cx = brush.uniform(rng, (-0.35, 0.35), n)
    cy = brush.uniform(rng, (-0.35, 0.35), n)
    angle = 2 * np.pi * _in_bin(rng, labels)
    u, v = draw.to_local(*brush.axes(), cx, cy, angle, scale)
    sdf = brush.by_kind(rng.integers(0, 3, n), lambda k, rows: _pointing(k, u[rows], v[rows]))
    canvas = draw.background(n, size=draw.SIZE)
    draw.paint(canvas, brush.alpha(sdf, scale), (1.0, 1.0, 1.0))
    return draw.to_uint8(canvas, factor=1)
