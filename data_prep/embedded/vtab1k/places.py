"""SUN397: 397 scenes, each a layout in the light of an hour with a ground of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

Layout = Callable[[Rng, Array, Array], Array]

# Hues of (sky or wall, ground, things), saturation and value of the whole.
HOURS: dict[str, tuple[float, float, float, float, float]] = {
    "noon": (0.58, 0.28, 0.08, 0.45, 0.85),
    "dusk": (0.04, 0.78, 0.68, 0.6, 0.6),
    "night": (0.65, 0.62, 0.55, 0.55, 0.32),
    "autumn": (0.13, 0.08, 0.03, 0.6, 0.7),
    "winter": (0.55, 0.57, 0.6, 0.12, 0.85),
    "neon": (0.85, 0.48, 0.16, 0.8, 0.75),
    "fog": (0.3, 0.33, 0.36, 0.15, 0.6),
    "carnival": (0.48, 0.4, 0.95, 0.6, 0.8),
}
GROUNDS = ("smooth", "striped", "tiled", "rough", "dotted")


def _ridge(x: Array, y: Array, rng: Rng, n: int, rough: float, base: float) -> Array:
    """Skyline of hills: distance below a random curve."""
    line = np.zeros((n, 1, 1), dtype=np.float32)
    for k in (1, 2, 4):
        line = line + rough / k * np.sin(
            k * 2.2 * x + draw.per_image(brush.uniform(rng, (0, 6.3), n))
        )
    return base - line - y


def _hills(rng: Rng, x: Array, y: Array) -> Array:
    return _ridge(x, y, rng, len(x), 0.25, -0.1)


def _peaks(rng: Rng, x: Array, y: Array) -> Array:
    peaks = [draw.sdf_polygon(x - c, y - 0.1, 3, 0.75) for c in (-0.6, 0.35)]
    return np.minimum(peaks[0], peaks[1])


def _towers(rng: Rng, x: Array, y: Array) -> Array:
    n = len(x)
    column = np.clip(((x + 1.0) * 3.5).astype(np.int64), 0, 7)
    heights = rng.uniform(-0.8, 0.1, (n, 8)).astype(np.float32)
    top = heights[np.arange(n)[:, None, None], column]
    return np.maximum(top - y, y - 0.3)


def _trunks(rng: Rng, x: Array, y: Array) -> Array:
    wave = np.sin(x * 9.0 + draw.per_image(brush.uniform(rng, (0, 6.3), len(x))))
    return np.maximum(0.25 * (0.45 - wave), y - 0.6)


def _arch(rng: Rng, x: Array, y: Array) -> Array:
    return np.maximum(draw.sdf_ring(x, y - 0.25, 0.7, 0.35), y - 0.45)


def _gable(rng: Rng, x: Array, y: Array) -> Array:
    roof = draw.sdf_polygon(x, (y + 0.25) * 1.3, 3, 0.75)
    return np.minimum(roof, draw.sdf_box(x, y - 0.25, 0.48, 0.3))


def _shelves(rng: Rng, x: Array, y: Array) -> Array:
    return np.maximum(0.08 - 0.2 * np.abs(np.sin(y * 5.5)), y - 0.7)


def _window(rng: Rng, x: Array, y: Array) -> Array:
    frame = draw.sdf_box(x, y + 0.2, 0.6, 0.55)
    bars = np.minimum(np.abs(x), np.abs(y + 0.2)) - 0.08
    return np.maximum(frame, -bars)


def _stage(rng: Rng, x: Array, y: Array) -> Array:
    return draw.sdf_box(brush.fold(x) - 0.85, y, 0.3, 1.0)


def _sun(rng: Rng, x: Array, y: Array) -> Array:
    return draw.sdf_disc(x - 0.1, y + 0.3, 0.4)


LAYOUTS: dict[str, Layout] = {
    "hills": _hills,
    "peaks": _peaks,
    "towers": _towers,
    "trunks": _trunks,
    "arch": _arch,
    "house": _gable,
    "shelves": _shelves,
    "window": _window,
    "stage": _stage,
    "sun": _sun,
}
COMBINATIONS = tuple(product(LAYOUTS, HOURS, GROUNDS))[:397]
SUN_NAMES = tuple(f"{layout}, {hour}, {ground} ground" for layout, hour, ground in COMBINATIONS)
_LAYOUT = np.asarray([list(LAYOUTS).index(c[0]) for c in COMBINATIONS])
_HOUR = np.asarray([list(HOURS).index(c[1]) for c in COMBINATIONS])
_GROUND = np.asarray([GROUNDS.index(c[2]) for c in COMBINATIONS])
_PALETTE = np.asarray(list(HOURS.values()), dtype=np.float32)
_DRAW = tuple(LAYOUTS.values())


def _floor(kind: int, rng: Rng, u: Array, depth: Array) -> Array:
    """Pattern of the ground in perspective, a field in [0, 1]."""
    if kind == 1:
        return draw.sharpen(draw.grating(u, depth, 0.9, np.pi / 2), 2.0)
    if kind == 2:
        return draw.checker(u, depth, 1.6)
    if kind == 3:
        return draw.sharpen(brush.noise(rng, len(u), 9, 2), 2.0)
    if kind == 4:
        return draw.sharpen(
            draw.grating(u, depth, 1.1) * draw.grating(u, depth, 1.1, np.pi / 2), 4.0, 0.5
        )
    return np.full(np.broadcast_shapes(u.shape, depth.shape), 0.4, dtype=np.float32)


def sun397(rng: Rng, labels: Labels, split: str) -> Images:
    """A scene; the label is its layout (10), hour (8) and ground (5), less three combinations."""
    n = len(labels)
    x, y = brush.axes()
    palette = _PALETTE[_HOUR[labels]]
    hue = palette[:, :3] + rng.normal(0.0, 0.03, (n, 3))
    sat = np.clip(palette[:, 3:4] + rng.normal(0.0, 0.1, (n, 3)), 0.02, 1.0)
    val = np.clip(palette[:, 4:5] * rng.uniform(0.75, 1.2, (n, 3)), 0.05, 1.0)
    colours = draw.hsv_to_rgb(hue % 1.0, sat, val * np.asarray([1.0, 0.8, 0.55]))
    horizon = draw.per_image(brush.uniform(rng, (0.1, 0.4), n))
    sky = draw.mix(
        colours[:, 0], np.clip(colours[:, 0] * 1.35, 0, 1), 0.5 + 0.5 * y * brush.noise(rng, n, 2)
    )
    canvas = np.ascontiguousarray(sky)
    below = np.maximum(y - horizon, 0.05)
    centre = draw.per_image(brush.uniform(rng, (-0.3, 0.3), n))
    u, depth = (x - centre) / (below + 0.3), 0.9 / (below + 0.25) + centre * 3
    pattern = brush.by_kind(_GROUND[labels], lambda k, rows: _floor(k, rng, u[rows], depth[rows]))
    ground = draw.mix(colours[:, 1] * 0.6, np.clip(colours[:, 1] * 1.25, 0, 1), pattern)
    draw.paint(canvas, brush.alpha(horizon - y), ground)
    size = brush.uniform(rng, (0.85, 1.15), n)
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    lu, lv = draw.to_local(
        x, y, brush.uniform(rng, (-0.2, 0.2), n), horizon[:, 0, 0] - 0.25, 0.0, size
    )
    lu = lu * draw.per_image(mirror)
    sdf = brush.by_kind(_LAYOUT[labels], lambda k, rows: _DRAW[k](rng, lu[rows], lv[rows]))
    tone = 0.8 + 0.4 * brush.noise(rng, n, 4)
    draw.paint(canvas, brush.alpha(sdf, size), draw.as_colour(colours[:, 2]) * tone[..., None])
    for _ in range(2):  # passers-by that say nothing about the scene
        fu, fv = draw.to_local(
            x,
            y,
            brush.uniform(rng, (-1, 1), n),
            brush.uniform(rng, (0.3, 0.9), n),
            0.0,
            brush.uniform(rng, (0.06, 0.16), n),
        )
        figure = brush.alpha(draw.sdf_ellipse(fu, fv, 1.0, 1.8) * 0.12) * (
            rng.random((n, 1, 1)) < 0.5
        )
        draw.paint(canvas, figure, brush.tint(rng, n))
    return brush.expose(rng, canvas)
