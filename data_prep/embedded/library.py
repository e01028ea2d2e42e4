"""The fixed vocabulary of the pre-training images: shape categories, materials and palettes.

Everything here is drawn once from a seed and then stays the same: category 17 is the same contour in every
image, material 5 the same kind of texture. None of it is a category of a downstream task.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from data_prep.embedded import draw
from data_prep.embedded.draw import Array, Rng

SHAPES = 96
MATERIALS = 48
PALETTES = 32
STYLES = ("clean", "blurred", "grainy", "hazy", "vignetted", "desaturated")

TABLE = 128
EXTENT = 1.3
TILE = 96
TILES_EACH = 64
_TILE_REACH = 1.2
_DRAWING_ROOM = 1.8


@dataclass(frozen=True)
class Library:
    """Shapes, materials and palettes.

    Attributes:
        shapes: signed distances (SHAPES, TABLE, TABLE) over [-EXTENT, EXTENT]^2, the radius about 1.
        tiles: texture values (MATERIALS, TILES_EACH, TILE, TILE) as uint8; material 0 is plain.
        palettes: three HSV stops for each palette (PALETTES, 3, 3).
    """

    shapes: Array
    tiles: npt.NDArray[np.uint8]
    palettes: Array


def build(seed: int) -> Library:
    """Draw the library that belongs to a seed."""
    rng = np.random.default_rng([seed, 1])
    shapes = np.concatenate(
        [_normalised(_shape(rng, index) / _DRAWING_ROOM) for index in range(SHAPES)]
    )
    tiles = np.stack([_tiles(rng, index) for index in range(MATERIALS)])
    return Library(shapes, tiles, _palettes(rng))


# --- shapes ---


def _shape(rng: Rng, index: int) -> Array:
    """Signed distances (1, TABLE, TABLE) of one category; the family follows from the index."""
    x, y = draw.grid(TABLE)
    # A shape is drawn with room to spare, so that none is cut off before it is scaled to fit.
    u, v = x * (EXTENT * _DRAWING_ROOM), y * (EXTENT * _DRAWING_ROOM)
    family = index % 8
    if family in (0, 1):
        return _superformula(rng, u, v)
    if family in (2, 3):
        return _wavy(rng, u, v)
    if family in (4, 5):
        return _composite(rng, u, v)
    return _glyph(rng, u, v)


def _superformula(rng: Rng, u: Array, v: Array) -> Array:
    n1 = rng.uniform(0.2, 0.7)
    n2, n3 = rng.uniform(0.4, 1.8, size=2)
    contour = draw.superformula(float(rng.integers(2, 9)), n1, n2, n3, b=rng.uniform(0.7, 1.3))
    contour = np.maximum(contour, rng.uniform(0.15, 0.4))
    u, v = draw.to_local(u, v, angle=rng.uniform(0, 2 * np.pi))
    return draw.sdf_radial(u, v * rng.uniform(1.0, 1.5), contour)


def _wavy(rng: Rng, u: Array, v: Array) -> Array:
    """Closed contour with a few random harmonics: blobs, leaves, silhouettes."""
    theta = np.linspace(-np.pi, np.pi, 128, endpoint=False)
    order = np.arange(1, 7)
    amplitude = rng.normal(size=6) * 0.75 / order**0.7
    phase = rng.uniform(0, 2 * np.pi, size=6)
    wave = (amplitude[:, None] * np.cos(order[:, None] * theta + phase[:, None])).sum(axis=0)
    contour = np.exp(0.55 * wave)
    return draw.sdf_radial(u, v, (contour / contour.max()).astype(np.float32))


def _primitive(rng: Rng, u: Array, v: Array) -> Array:
    cx, cy = rng.uniform(-0.5, 0.5, size=2)
    u, v = draw.to_local(u, v, cx, cy, rng.uniform(0, 2 * np.pi))
    a, b = rng.uniform(0.25, 0.9, size=2)
    kind = rng.integers(5)
    if kind == 0:
        return draw.sdf_ellipse(u, v, a, b)
    if kind == 1:
        return draw.sdf_box(u, v, a, b, rng.uniform(0.0, 0.2))
    if kind == 2:
        return draw.sdf_polygon(u, v, float(rng.integers(3, 7)), a)
    if kind == 3:
        return draw.sdf_star(u, v, float(rng.integers(4, 8)), 0.9, 0.4)
    return draw.sdf_ring(u, v, 0.5 + 0.4 * a, 0.2 + 0.2 * b)


def _composite(rng: Rng, u: Array, v: Array) -> Array:
    """Two to four primitives joined, one perhaps cut out."""
    sdf = _primitive(rng, u, v)
    for _ in range(rng.integers(1, 3)):
        sdf = np.minimum(sdf, _primitive(rng, u, v))
    if rng.random() < 0.6:
        sdf = np.maximum(sdf, -_primitive(rng, u, v))
    return sdf if sdf.min() < -0.1 else _composite(rng, u, v)


def _glyph(rng: Rng, u: Array, v: Array) -> Array:
    """A chain of pen strokes, straight or bent, like a letter of no alphabet."""
    sdf = np.full(u.shape, 9.0, dtype=np.float32)
    pen = rng.uniform(0.1, 0.2)
    start = rng.uniform(-0.9, 0.9, size=2)
    for _ in range(rng.integers(2, 5)):
        end = rng.uniform(-0.9, 0.9, size=2)
        if np.hypot(*(end - start)) < 0.7:
            end = np.clip(-start, -0.9, 0.9)
        bend = (start + end) / 2 + rng.normal(size=2) * rng.choice([0.0, 0.45])
        t = np.linspace(0.0, 1.0, 7)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        for p, q in pairwise(curve):
            sdf = np.minimum(sdf, draw.sdf_capsule(u, v, p[0], p[1], q[0], q[1], pen))
        start = end if rng.random() < 0.7 else rng.uniform(-0.9, 0.9, size=2)
    return sdf


def _normalised(sdf: Array) -> Array:
    """Centre a shape on its box and scale it so that it just fits into the table."""
    x, y = draw.grid(TABLE)
    inside = sdf[0] < 0
    xs, ys = x[0][inside] * EXTENT, y[0][inside] * EXTENT
    cx, cy = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    radius = max(float(np.hypot(xs - cx, ys - cy).max()), 0.2)
    u, v = x * EXTENT * radius + cx, y * EXTENT * radius + cy
    return (sample(sdf, np.zeros((1, 1, 1), dtype=np.int64), u, v) / radius).astype(np.float32)


def sample(tables: Array, index: npt.NDArray[np.int64], u: Array, v: Array) -> Array:
    """Read distance tables at local coordinates, to the nearest node; clamped at the border."""
    size = tables.shape[-1]
    scale = size / (2 * EXTENT)
    column = np.clip((u + EXTENT) * scale, 0, size - 1).astype(np.int32)
    row = np.clip((v + EXTENT) * scale, 0, size - 1).astype(np.int32)
    flat = (index.astype(np.int32) * size + row) * size + column
    return tables.reshape(-1)[flat]


# --- materials ---


def _tiles(rng: Rng, index: int) -> npt.NDArray[np.uint8]:
    """Tiles of one material; the family follows from the index, its parameters from the generator."""
    n = TILES_EACH
    if index == 0:
        field = np.full((n, TILE, TILE), 0.5, dtype=np.float32)
    elif index % 8 in (1, 2, 3, 4):
        field = _spectral(rng, n)
    elif index % 8 in (5, 6):
        field = _periodic(rng, n)
    else:
        field = _cellular(rng, n)
    return (np.clip(field, 0.0, 1.0) * 255).astype(np.uint8)


def _spectral(rng: Rng, n: int) -> Array:
    """Noise with a given spectrum: a band or a power law, isotropic or drawn out along an angle."""
    fy = np.fft.fftfreq(TILE)[:, None] * TILE
    fx = np.fft.rfftfreq(TILE)[None] * TILE
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.1, (n, 1, 1))
    stretch = rng.choice([1.0, 1.0, 3.0, 6.0])
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = (fy * np.cos(angle) - fx * np.sin(angle)) * stretch
    frequency = np.maximum(np.hypot(along, across), 0.5) / rng.uniform(0.85, 1.18, (n, 1, 1))
    if rng.random() < 0.6:
        centre, width = np.exp(rng.uniform(np.log(2.5), np.log(18))), rng.uniform(0.2, 0.6)
        amplitude = np.exp(-(np.log(frequency / centre) ** 2) / (2 * width**2)) / frequency
    else:
        amplitude = frequency ** -rng.uniform(1.3, 2.6)
    amplitude[:, 0, 0] = 0.0
    noise = np.fft.rfft2(rng.standard_normal((n, TILE, TILE)))
    field = np.fft.irfft2(noise * amplitude, s=(TILE, TILE))
    field /= field.std(axis=(1, 2), keepdims=True)
    shape = rng.integers(4)
    if shape == 1:
        return (1.0 - 0.7 * np.abs(field)).astype(np.float32)
    if shape == 2:
        return (0.5 + 1.5 * (field - rng.uniform(-0.6, 0.6))).astype(np.float32)
    return (0.5 + 0.22 * field).astype(np.float32)


def _periodic(rng: Rng, n: int) -> Array:
    """Stripes, plaids, dots, checks: two crossed waves combined in one of several ways."""
    x, y = draw.grid(TILE)
    x, y = x * _TILE_REACH, y * _TILE_REACH
    warp = (draw.fractal_noise(rng, n, 2, 2, size=TILE) - 0.5) * rng.uniform(0.0, 0.5)
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.12, n)
    u, v = draw.to_local(x, y, rng.uniform(-1, 1, n), rng.uniform(-1, 1, n), angle)
    jitter = rng.uniform(0.85, 1.18, n)
    f1 = rng.uniform(1.2, 5.0)
    f2 = f1 * rng.choice([0.5, 1.0, 1.0, 2.0])
    first = draw.grating(u + warp, v, f1 * jitter)
    second = draw.grating(v - warp, u, f2 * jitter)
    combined = (
        first,
        0.5 * (first + second),
        first * second * 1.6,
        np.abs(first + second - 1.0),
        np.maximum(first, second),
        first * first * second + 0.3 * second,
    )[rng.integers(6)]
    return draw.sharpen(combined, rng.choice([1.0, 1.0, 3.0]))


def _cellular(rng: Rng, n: int) -> Array:
    """Voronoi cells: filled, walled, or shaded by the distance to the centre."""
    x, y = draw.grid(TILE)
    points = int(rng.integers(8, 40))
    px, py = rng.uniform(-1.1, 1.1, (2, n, points)).astype(np.float32)
    nearest, first, second = draw.voronoi(x, y, px, py)
    pitch = 2.2 / np.sqrt(points)
    kind = rng.integers(3)
    if kind == 0:
        tone = rng.random((n, points)).astype(np.float32)
        return tone[np.arange(n)[:, None, None], nearest]
    if kind == 1:
        return draw.sharpen((second - first) / pitch, 3.0, 0.25)
    return (1.3 * first / pitch).astype(np.float32)


# --- palettes ---


def _palettes(rng: Rng) -> Array:
    """Three HSV stops for each palette: a base hue, a related or opposed one, dark to light."""
    stops = np.empty((PALETTES, 3, 3), dtype=np.float32)
    for index in range(PALETTES):
        hue = (index + rng.uniform(-0.3, 0.3)) / PALETTES
        step = rng.choice([0.03, 0.08, 0.33, 0.5]) * rng.choice([-1.0, 1.0])
        saturation = rng.choice([0.1, 0.45, 0.75, 0.9])
        stops[index, :, 0] = hue + step * np.asarray([0.0, 0.5, 1.0])
        stops[index, :, 1] = np.clip(saturation + rng.normal(0, 0.12, 3), 0, 1)
        stops[index, :, 2] = rng.permutation([0.15, 0.55, 0.95]) + rng.normal(0, 0.06, 3)
    return stops
