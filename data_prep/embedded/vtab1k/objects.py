"""CIFAR-100, Caltech101 and SVHN: things on clutter."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.embedded.vtab1k.shapes import SHAPES
from data_prep.streams import Labels, stream

OUTLINES = tuple(SHAPES.values())

# --- CIFAR-100: 20 outlines x 5 coats ---------------------------------------------------------

CIFAR_SHAPES = tuple(SHAPES)[:20]
COATS = ("plain", "striped", "spotted", "two-tone", "marbled")
CIFAR_NAMES = tuple(f"{coat} {shape}" for shape in CIFAR_SHAPES for coat in COATS)


def _coat(rng: Rng, kind: int, u: Array, v: Array) -> Array:
    """Field in [0, 1] that blends the two colours of an object."""
    n = len(u)
    if kind == 0:
        return 0.15 * brush.noise(rng, n)
    if kind == 1:
        turn = brush.uniform(rng, (0, np.pi), n)
        return draw.sharpen(draw.grating(u, v, brush.uniform(rng, (1.1, 1.7), n), turn), 2.0)
    if kind == 2:
        f = brush.uniform(rng, (1.4, 1.9), n)
        dots = draw.grating(u, v, f, 0.6) * draw.grating(u, v, f, 0.6 + np.pi / 2)
        return draw.sharpen(dots, 4.0, 0.4)
    if kind == 3:
        return draw.sharpen(0.5 + 0.5 * v + 0.3 * (brush.noise(rng, n) - 0.5), 6.0)
    return draw.sharpen(brush.noise(rng, n, 5, 2), 3.0)


def cifar100(rng: Rng, labels: Labels, split: str) -> Images:
    """A small object on clutter; the label is its outline (20) and its coat (5)."""
    n = len(labels)
    shape, coat = labels // len(COATS), labels % len(COATS)
    home = stream("vtab1k", "cifar100", "prototypes").random((len(CIFAR_NAMES), 2))
    canvas = brush.clutter(rng, n)
    hue = home[labels, 0] + rng.normal(0.0, 0.04, n)  # a class has a favourite colour; some defy it
    hue = np.where(rng.random(n) < 0.1, rng.random(n), hue)
    other = hue + 0.25 + 0.5 * home[labels, 1] + rng.normal(0.0, 0.06, n)
    first = draw.hsv_to_rgb(
        hue % 1.0, brush.uniform(rng, (0.45, 0.95), n), brush.uniform(rng, (0.4, 1), n)
    )
    first = brush.apart(canvas, first, 0.2)
    second = draw.hsv_to_rgb(
        other % 1.0, brush.uniform(rng, (0.1, 0.7), n), brush.uniform(rng, (0.2, 1), n)
    )
    scale = brush.uniform(rng, (0.65, 0.88), n)
    cx, cy = brush.uniform(rng, (-0.12, 0.12), n), brush.uniform(rng, (-0.12, 0.12), n)
    u, v = draw.to_local(*brush.axes(), cx, cy, rng.normal(0.0, 0.2, n), scale)
    u = u * draw.per_image(
        brush.uniform(rng, (0.85, 1.2), n) * np.where(rng.random(n) < 0.5, -1, 1)
    )
    sdf = brush.by_kind(shape, lambda k, rows: OUTLINES[k](u[rows], v[rows]))
    field = brush.by_kind(coat, lambda k, rows: _coat(rng, k, u[rows], v[rows]))
    draw.paint(canvas, brush.alpha(sdf, scale), draw.mix(first, second, field))
    return brush.expose(rng, canvas, grain=0.04)


# --- Caltech101: 34 outlines x 3 settings, the last class being clutter alone -----------------

SETTINGS = ("{}", "{} on a stand", "{} under an arch")
_THINGS = tuple(setting.format(shape) for shape in SHAPES for setting in SETTINGS)
CALTECH_NAMES = (*_THINGS[:-1], "background clutter")
BACKGROUND = len(CALTECH_NAMES) - 1


def _setting(kind: int, u: Array, v: Array, sdf: Array) -> Array:
    """Add what stands around the object, which shrinks to make room."""
    if kind == 1:
        return np.minimum(sdf, draw.sdf_box(u, v - 1.35, 1.05, 0.2))
    if kind == 2:
        arch = np.maximum(draw.sdf_ring(u, v, 1.35, 0.22), v + 0.1)
        return np.minimum(sdf, arch)
    return sdf


def caltech101(rng: Rng, labels: Labels, split: str) -> Images:
    """An upright object, filled, outlined or hatched; the label is its outline and its setting."""
    n = len(labels)
    canvas = brush.clutter(rng, n, sat=(0.0, 0.4), val=(0.45, 1.0))
    flat = rng.random(n) < 0.5  # half the pictures have a plain ground, as in the original
    canvas[flat] = draw.as_colour(brush.tint(rng, int(flat.sum()), sat=(0.0, 0.3), val=(0.55, 1.0)))
    scale = brush.uniform(rng, (0.5, 0.58), n)
    cx, cy = brush.uniform(rng, (-0.05, 0.05), n), brush.uniform(rng, (-0.05, 0.05), n)
    u, v = draw.to_local(*brush.axes(), cx, cy, rng.normal(0.0, 0.05, n), scale)
    u = u * draw.per_image(brush.uniform(rng, (0.9, 1.1), n))
    sdf = brush.by_kind(labels // 3, lambda k, rows: OUTLINES[k](u[rows], v[rows]))
    sdf = brush.by_kind(labels % 3, lambda k, rows: _setting(k, u[rows], v[rows], sdf[rows]))
    ink = brush.apart(canvas, brush.tint(rng, n, val=(0.0, 0.7)), 0.35)
    style = rng.choice(4, n, p=(0.5, 0.2, 0.1, 0.2))[:, None, None]
    hatch = draw.sharpen(draw.grating(u, v, 2.2, brush.uniform(rng, (0, np.pi), n)), 3.0)
    outline = np.abs(sdf) - 0.13
    cover = brush.alpha(np.where(style == 1, outline, sdf), scale)
    strength = np.where(style == 2, 0.35 + 0.65 * hatch, 1.0) * np.where(
        style == 3, 0.7 - 0.25 * v, 1.0
    )
    cover = cover * np.clip(strength, 0.0, 1.0) * (labels != BACKGROUND)[:, None, None]
    draw.paint(canvas, cover.astype(np.float32), ink)
    negative = rng.random(n) < 0.15
    canvas[negative] = 1.0 - canvas[negative]
    return brush.expose(rng, canvas)


# --- SVHN: handwritten digits on house fronts -------------------------------------------------

# Shares of scikit-learn's 1,797 digits; no digit serves two splits.
POOLS = {"train800": (0.0, 0.55), "val200": (0.55, 0.67), "test": (0.67, 1.0)}


@cache
def _digits() -> tuple[Array, Labels]:
    """Load scikit-learn's handwritten digits, in a fixed random order: (1797, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = stream("vtab1k", "svhn", "digits").permutation(len(data.target))
    return (data.images[order] / 16.0).astype(np.float32), data.target[order].astype(np.int64)


def digit_pool(split: str) -> npt.NDArray[np.int64]:
    """Return the indices of the digits that a split draws from."""
    total = len(_digits()[1])
    low, high = POOLS[split]
    return np.arange(int(low * total), int(high * total), dtype=np.int64)


def _stamp(glyphs: Array, u: Array, v: Array) -> Array:
    """Sample 8 x 8 glyphs at local coordinates in [-1, 1], bilinearly; 0 outside."""
    padded = np.pad(glyphs, ((0, 0), (1, 1), (1, 1)))
    col, row = np.clip(u * 4 + 4.5, 0.0, 8.999), np.clip(v * 4 + 4.5, 0.0, 8.999)
    c, r = col.astype(np.int64), row.astype(np.int64)
    fc, fr = col - c, row - r
    k = np.arange(len(glyphs))[:, None, None]
    top = padded[k, r, c] * (1 - fc) + padded[k, r, c + 1] * fc
    low = padded[k, r + 1, c] * (1 - fc) + padded[k, r + 1, c + 1] * fc
    return (top * (1 - fr) + low * fr).astype(np.float32)


def pick_digits(rng: Rng, labels: Labels, split: str) -> npt.NDArray[np.int64]:
    """Pick a digit of the split's pool for each label."""
    pool = digit_pool(split)
    written = _digits()[1][pool]
    chosen = np.empty(len(labels), dtype=np.int64)
    for digit in np.unique(labels):
        rows = np.flatnonzero(labels == digit)
        chosen[rows] = rng.choice(pool[written == digit], size=len(rows))
    return chosen


def svhn(rng: Rng, labels: Labels, split: str) -> Images:
    """A handwritten digit in the middle of a house number; the label is the digit."""
    n = len(labels)
    x, y = brush.axes()
    canvas = brush.clutter(rng, n, sat=(0.1, 0.7), val=(0.15, 0.9))
    ink = brush.apart(canvas, brush.tint(rng, n, val=(0.1, 1.0)), 0.35)
    angle, scale = rng.normal(0.0, 0.1, n), brush.uniform(rng, (0.75, 0.95), n)
    cx, cy = brush.uniform(rng, (-0.1, 0.1), n), brush.uniform(rng, (-0.1, 0.1), n)
    gap = brush.uniform(rng, (1.05, 1.25), n)
    images = _digits()[0]
    for side in (-1.0, 0.0, 1.0):
        source = rng.choice(digit_pool(split), n) if side else pick_digits(rng, labels, split)
        u, v = draw.to_local(
            x, y, cx + side * gap * np.cos(angle), cy + side * gap * np.sin(angle), angle, scale
        )
        u = u * draw.per_image(brush.uniform(rng, (1.0, 1.35), n))
        stroke = draw.sharpen(_stamp(images[source], u, v), 1.8, 0.4)
        shown = rng.random((n, 1, 1)) < (0.6 if side else 1.0)
        draw.paint(canvas, stroke * shown, ink)
    field = draw.grating(x, y, brush.uniform(rng, (0.5, 3.0), n), brush.uniform(rng, (0, np.pi), n))
    draw.shade(canvas, 1.0 - 0.25 * field * (rng.random((n, 1, 1)) < 0.5))
    return brush.expose(rng, canvas)
