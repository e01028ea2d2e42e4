"""Dishes on plates: they differ in the food's colour, grain and garnish."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.embedded.fewshot.family import prototypes
from data_prep.streams import Labels

CLASSES = prototypes(
    "food101",
    {
        "hue": (0.02, 0.09, 0.15, 0.3),
        "grain": (3.0, 6.0, 11.0),  # cells of its texture
        "garnish": (0.0, 1.0, 2.0),  # crumbs, strips, a ring
        "colour": (0.0, 0.14, 0.33),  # the garnish's hue
        "portion": (0.5, 0.68),
    },
    20,
)
CRUMBS = 9


def _garnish(rng: Rng, kind: int, u: Array, v: Array) -> Array:
    """Distance to the garnish in the frame of the plate."""
    n = len(u)
    if kind == 0:
        angle = rng.uniform(0, 2 * np.pi, (n, CRUMBS)).astype(np.float32)
        far = 0.42 * np.sqrt(rng.random((n, CRUMBS), dtype=np.float32))
        px, py = (far * wave(angle) for wave in (np.cos, np.sin))
        _, nearest, _ = draw.voronoi(u, v, px.astype(np.float32), py.astype(np.float32))
        return nearest - 0.085
    if kind == 1:
        return np.maximum(np.abs(np.mod(u + 0.13, 0.26) - 0.13) - 0.045, np.abs(v) - 0.42)
    return draw.sdf_ring(u, v, 0.3, 0.11)


def render(rng: Rng, labels: Labels) -> Images:
    """A dish from above; the label is what it is."""
    n = len(labels)
    x, y = brush.axes()
    cloth = brush.tint(rng, n, sat=(0.1, 0.5), val=(0.3, 0.7))
    canvas = draw.mix(cloth, 0.8 * cloth, brush.noise(rng, n))
    scale = brush.uniform(rng, (0.92, 1.05), n)
    u, v = draw.to_local(
        x, y, brush.uniform(rng, (-0.06, 0.06), n), brush.uniform(rng, (-0.06, 0.06), n),
        rng.normal(0.0, 0.4, n), scale,
    )  # fmt: skip
    plate = brush.tint(rng, n, sat=(0.0, 0.15), val=(0.8, 1.0))
    draw.paint(canvas, brush.alpha(draw.sdf_disc(u, v, 0.88), scale), plate)
    draw.paint(canvas, brush.alpha(draw.sdf_ring(u, v, 0.8, 0.05), scale), 0.85 * plate)
    hue = (CLASSES["hue", labels] + rng.normal(0.0, 0.015, n)) % 1.0
    strong, bright = brush.uniform(rng, (0.45, 0.85), n), brush.uniform(rng, (0.45, 0.9), n)
    grain = CLASSES["grain", labels].astype(int)
    field = brush.by_kind(grain, lambda k, rows: brush.noise(rng, len(rows), k, 1))
    food = draw.mix(
        draw.hsv_to_rgb(hue, strong, 0.55 * bright),
        draw.hsv_to_rgb(hue, 0.8 * strong, bright),
        field,
    )
    edge = 0.12 * (brush.noise(rng, n, 4, 2) - 0.5)
    heap = draw.sdf_disc(u, v, CLASSES["portion", labels]) + edge
    draw.paint(canvas, brush.alpha(heap, scale), food)
    top = brush.by_kind(
        CLASSES["garnish", labels].astype(int),
        lambda k, rows: _garnish(rng, k, u[rows], v[rows]),
    )
    colour = (CLASSES["colour", labels] + rng.normal(0.0, 0.02, n)) % 1.0
    leaf = draw.hsv_to_rgb(
        colour, brush.uniform(rng, (0.6, 0.95), n), brush.uniform(rng, (0.4, 1.0), n)
    )
    draw.paint(canvas, brush.alpha(np.maximum(top, heap + 0.05), scale), leaf)
    return brush.expose(rng, canvas, light=0.15)
