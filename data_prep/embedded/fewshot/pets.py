"""Faces of pets in any coat: they differ in ears, muzzle, eyes and markings."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.embedded.fewshot.family import prototypes
from data_prep.streams import Labels

CLASSES = prototypes(
    "pets",
    {
        "ears": (0.0, 1.0, 2.0),  # pricked, round, hanging
        "long": (0.72, 1.08),  # the head's height
        "muzzle": (0.22, 0.5),
        "eyes": (0.22, 0.48),  # how far apart
        "mask": (0.0, 1.0, 2.0),  # none, around the eyes, a blaze
    },
    16,
)


def _ears(kind: int, w: Array, v: Array) -> Array:
    if kind == 0:
        return draw.sdf_polygon(w - 0.52, v + 0.8, 3, 0.5)
    if kind == 1:
        return draw.sdf_disc(w - 0.62, v + 0.72, 0.34)
    return draw.sdf_ellipse(w - 0.88, v - 0.05, 0.24, 0.62)


def _mask(kind: int, u: Array, v: Array) -> Array:
    if kind == 1:
        return draw.coverage(draw.sdf_ellipse(u, v + 0.15, 1.0, 0.32), 0.12)
    if kind == 2:
        return draw.coverage(draw.sdf_ellipse(u, v + 0.1, 0.2, 1.0), 0.12)
    return np.zeros_like(u)


def render(rng: Rng, labels: Labels) -> Images:
    """The face of a pet; the label is its breed."""
    n = len(labels)
    x, y = brush.axes()
    wall = brush.tint(rng, n, sat=(0.1, 0.5), val=(0.35, 0.8))
    canvas = draw.mix(wall, 0.8 * wall, brush.noise(rng, n))
    scale = brush.uniform(rng, (0.56, 0.74), n)
    u, v = draw.to_local(
        x, y, brush.uniform(rng, (-0.08, 0.08), n), brush.uniform(rng, (0.05, 0.2), n),
        rng.normal(0.0, 0.1, n), scale,
    )  # fmt: skip
    look = draw.per_image(brush.uniform(rng, (-0.08, 0.08), n))  # the face looks aside
    coat = brush.apart(canvas, brush.tint(rng, n, (0.04, 0.1), (0.2, 0.6), (0.35, 0.85)), 0.15)
    bright = coat.mean(1, keepdims=True) > 0.5
    other = np.where(bright, 0.35 * coat, 0.4 * coat + 0.55).astype(np.float32)
    ears, mask = CLASSES["ears", labels], CLASSES["mask", labels]
    w = brush.fold(u)
    ear = brush.alpha(
        brush.by_kind(ears.astype(int), lambda k, rows: _ears(k, w[rows], v[rows])), scale
    )
    draw.paint(canvas, ear * draw.per_image((ears < 2).astype(np.float32)), 0.8 * coat)
    head = draw.sdf_ellipse(u, v, 0.95, CLASSES["long", labels])
    field = brush.by_kind(mask.astype(int), lambda k, rows: _mask(k, u[rows] - look[rows], v[rows]))
    draw.paint(canvas, brush.alpha(head, scale), draw.mix(coat, other, field))
    draw.paint(canvas, ear * draw.per_image((ears >= 2).astype(np.float32)), 0.7 * coat)
    s = u - look
    muzzle = CLASSES["muzzle", labels]
    draw.paint(
        canvas,
        0.8 * brush.alpha(draw.sdf_ellipse(s, v - 0.42, muzzle, 0.3), scale),
        0.4 * coat + 0.5,
    )
    eye = brush.fold(s) - draw.per_image(CLASSES["eyes", labels])
    draw.paint(canvas, brush.alpha(draw.sdf_disc(eye, v + 0.14, 0.13), scale), (0.04, 0.04, 0.04))
    draw.paint(
        canvas, brush.alpha(draw.sdf_ellipse(s, v - 0.3, 0.14, 0.1), scale), (0.1, 0.06, 0.06)
    )
    return brush.expose(rng, canvas, grain=0.03, light=0.15)
