"""EuroSAT and RESISC45: land seen from above."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.brush import Range
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

# --- EuroSAT: ten kinds of land cover ---------------------------------------------------------

EUROSAT_NAMES = (
    "annual crop",
    "forest",
    "herbaceous vegetation",
    "highway",
    "industrial",
    "pasture",
    "permanent crop",
    "residential",
    "river",
    "sea or lake",
)
_GREEN, _BLUE = (0.2, 0.38), (0.52, 0.64)


def _fields(rng: Rng, n: int, points: int, hue: tuple[float, float], contrast: float) -> Array:
    """Patchwork of plots with colours around one hue."""
    x, y = brush.axes()
    px, py = (rng.uniform(-1.2, 1.2, (n, points)).astype(np.float32) for _ in range(2))
    index, _, _ = draw.voronoi(x, y, px, py)
    plots = draw.hsv_to_rgb(
        rng.uniform(*hue, (n, points)),
        rng.uniform(0.25, 0.55, (n, points)),
        0.45 + contrast * rng.uniform(-1, 1, (n, points)),
    )
    return plots[np.arange(n)[:, None, None], index]


def _band(rng: Rng, n: int, width: tuple[float, float], bend: float) -> Array:
    """Distance to a strip that crosses the picture."""
    x, y = brush.axes()
    u, v = draw.to_local(
        x,
        y,
        brush.uniform(rng, (-0.4, 0.4), n),
        brush.uniform(rng, (-0.4, 0.4), n),
        brush.uniform(rng, (0, 6.3), n),
    )
    curve = bend * np.sin(2.0 * u + draw.per_image(brush.uniform(rng, (0, 6.3), n)))
    return np.abs(v - curve) - draw.per_image(brush.uniform(rng, width, n))


def _buildings(
    rng: Rng, canvas: Array, pitch: float, size: tuple[float, float], share: float
) -> None:
    """Roofs on a turned street grid, each with its own tone."""
    n = len(canvas)
    x, y = brush.axes()
    u, v = draw.to_local(x, y, 0.0, 0.0, brush.uniform(rng, (0, 6.3), n), 1.0)
    iu, iv = np.floor(u / pitch).astype(np.int64), np.floor(v / pitch).astype(np.int64)
    cell = (iu * 7 + iv * 13) % 64
    rows = np.arange(n)[:, None, None]
    table = rng.random((4, n, 64), dtype=np.float32)
    half = [0.5 * pitch * (size[0] + (size[1] - size[0]) * table[k][rows, cell]) for k in (0, 1)]
    du, dv = np.abs(u - (iu + 0.5) * pitch), np.abs(v - (iv + 0.5) * pitch)
    sdf = np.maximum(du - half[0], dv - half[1])
    tone = 0.35 + 0.6 * table[2][rows, cell]
    roof = np.where(table[3][rows, cell][..., None] < 0.5, np.asarray([1.0, 0.75, 0.65]), 1.0)
    shown = table[3][rows, cell] < share
    draw.paint(canvas, brush.alpha(sdf) * shown, (tone[..., None] * roof).astype(np.float32))


def _grain(rng: Rng, n: int) -> Array:
    """Fine unevenness of the land."""
    strength = draw.per_image(brush.uniform(rng, (0.15, 0.3), n))
    return (strength * (brush.noise(rng, n, 10, 2) - 0.5))[..., None]


def _plain(rng: Rng, n: int, hue: Range, sat: Range, val: Range) -> Array:
    """Canvases of one colour each."""
    return draw.background(n, brush.tint(rng, n, hue, sat, val), draw.SIZE)


def _blend(rng: Rng, n: int, hues: tuple[Range, Range], val: Range, cells: int) -> Array:
    """Canvases of two colours that run into each other."""
    first, second = (brush.tint(rng, n, hue, (0.25, 0.6), val) for hue in hues)
    return draw.mix(first, second, brush.noise(rng, n, cells))


def _annual_crop(rng: Rng, n: int) -> Array:
    return _fields(rng, n, 7, (0.06, 0.3), 0.22) + _grain(rng, n)


def _forest(rng: Rng, n: int) -> Array:
    return _plain(rng, n, (0.25, 0.42), (0.3, 0.6), (0.18, 0.4)) + 1.6 * _grain(rng, n)


def _herbs(rng: Rng, n: int) -> Array:
    return _blend(rng, n, ((0.12, 0.3), (0.18, 0.36)), (0.25, 0.58), 4) + _grain(rng, n)


def _highway(rng: Rng, n: int) -> Array:
    canvas = _fields(rng, n, 5, (0.1, 0.36), 0.15) + _grain(rng, n)
    asphalt = brush.tint(rng, n, sat=(0.0, 0.1), val=(0.5, 0.8))
    draw.paint(canvas, brush.alpha(_band(rng, n, (0.07, 0.12), 0.12)), asphalt)
    return canvas


def _industrial(rng: Rng, n: int) -> Array:
    canvas = _plain(rng, n, (0.05, 0.35), (0.05, 0.3), (0.35, 0.6))
    _buildings(rng, canvas, 0.62, (0.5, 0.95), 0.8)
    return canvas + _grain(rng, n)


def _pasture(rng: Rng, n: int) -> Array:
    canvas = _blend(rng, n, (_GREEN, _GREEN), (0.4, 0.65), 2)
    hedges = np.minimum(_band(rng, n, (0.03, 0.06), 0.05), _band(rng, n, (0.03, 0.06), 0.05))
    draw.paint(canvas, 0.6 * brush.alpha(hedges), (0.12, 0.22, 0.1))
    return canvas + _grain(rng, n)


def _permanent_crop(rng: Rng, n: int) -> Array:
    canvas = _fields(rng, n, 4, (0.08, 0.3), 0.12)
    x, y = brush.axes()
    turn = brush.uniform(rng, (0, np.pi), n)
    rows = draw.grating(x, y, brush.uniform(rng, (2.2, 3.6), n), turn)
    draw.shade(canvas, 1.15 - 0.5 * rows)
    return canvas + _grain(rng, n)


def _residential(rng: Rng, n: int) -> Array:
    canvas = _plain(rng, n, (0.05, 0.35), (0.05, 0.3), (0.35, 0.6))
    _buildings(rng, canvas, 0.3, (0.45, 0.8), 0.75)
    return canvas + _grain(rng, n)


def _river(rng: Rng, n: int) -> Array:
    canvas = _fields(rng, n, 5, (0.1, 0.36), 0.15) + _grain(rng, n)
    water = brush.tint(rng, n, _BLUE, (0.1, 0.5), (0.25, 0.6))
    draw.paint(canvas, brush.alpha(_band(rng, n, (0.12, 0.25), 0.35)), water)
    return canvas


def _sea(rng: Rng, n: int) -> Array:
    canvas = _plain(rng, n, _BLUE, (0.3, 0.7), (0.2, 0.55)) + 0.3 * _grain(rng, n)
    x, y = brush.axes()
    shore = draw.sharpen(brush.noise(rng, n, 2, 2) + (x + y) * 0.3, 5.0, 0.9)
    shown = rng.random((n, 1, 1)) < 0.5
    draw.paint(canvas, shore * shown, brush.tint(rng, n, (0.06, 0.38), val=(0.3, 0.6)))
    return canvas


_COVERS = (
    _annual_crop,
    _forest,
    _herbs,
    _highway,
    _industrial,
    _pasture,
    _permanent_crop,
    _residential,
    _river,
    _sea,
)


def eurosat(rng: Rng, labels: Labels, split: str) -> Images:
    """Land from above; the label is its cover."""
    canvas = brush.by_kind(labels, lambda k, rows: _COVERS[k](rng, len(rows)))
    return brush.expose(rng, np.clip(canvas, 0.0, 1.0), grain=0.03, light=0.3)


# --- RESISC45: 15 structures on 3 grounds -----------------------------------------------------

Structure = Callable[[Rng, Array, Array], Array]
GROUNDS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "grassland": ((0.18, 0.36), (0.2, 0.6), (0.25, 0.55)),
    "desert": ((0.05, 0.13), (0.25, 0.55), (0.55, 0.85)),
    "town": ((0.5, 0.7), (0.0, 0.15), (0.35, 0.65)),
}


def _roads(u: Array, v: Array, arms: int, start: float = 0.0) -> Array:
    """Roads that leave the centre at equal angles."""
    out = np.full(u.shape, np.inf, dtype=np.float32)
    for k in range(arms):
        a = start + 2 * np.pi * k / arms
        out = np.minimum(out, draw.sdf_capsule(u, v, 0.0, 0.0, 2 * np.cos(a), 2 * np.sin(a), 0.13))
    return out


def _many(rng: Rng, u: Array, v: Array, count: int, size: float, slim: float) -> Array:
    """Distance to scattered discs or, if slim, hulls that point one way."""
    out = np.full(u.shape, np.inf, dtype=np.float32)
    n = len(u)
    for _ in range(count):
        du = u - draw.per_image(brush.uniform(rng, (-0.8, 0.8), n))
        dv = v - draw.per_image(brush.uniform(rng, (-0.8, 0.8), n))
        out = np.minimum(out, draw.sdf_ellipse(du, dv, size, size * slim))
    return out


def _airplane(rng: Rng, u: Array, v: Array) -> Array:
    wings = draw.sdf_capsule(u, np.abs(v), 0.15, 0.0, -0.25, 0.75, 0.12)
    tail = draw.sdf_capsule(u, np.abs(v), -0.6, 0.0, -0.8, 0.3, 0.08)
    return np.minimum(np.minimum(draw.sdf_ellipse(u, v, 0.85, 0.17), wings), tail)


def _overpass(rng: Rng, u: Array, v: Array) -> Array:
    low = np.maximum(np.abs(v) - 0.16, 0.45 - np.abs(u))
    return np.minimum(low, np.abs(u) - 0.16)


def _stadium(rng: Rng, u: Array, v: Array) -> Array:
    return brush.fold(draw.sdf_box(u, v, 0.8, 0.5, 0.5)) - 0.12


def _court(rng: Rng, u: Array, v: Array) -> Array:
    frame = np.abs(draw.sdf_box(u, v, 0.75, 0.5)) - 0.06
    return np.minimum(
        np.minimum(frame, np.maximum(np.abs(u) - 0.06, np.abs(v) - 0.5)), draw.sdf_disc(u, v, 0.2)
    )


def _diamond(rng: Rng, u: Array, v: Array) -> Array:
    fan = np.maximum(draw.sdf_disc(u, v - 0.6, 1.3), np.abs(u) + v - 0.6)
    base = draw.sdf_box((u - v + 0.15) * 0.7, (u + v - 0.15) * 0.7, 0.25, 0.25)
    return np.maximum(fan, -base)


STRUCTURES: dict[str, Structure] = {
    "airplane": _airplane,
    "runway": lambda rng, u, v: np.maximum(np.abs(v) - 0.3, 0.06 - np.abs(v)),
    "crossroads": lambda rng, u, v: _roads(u, v, 4),
    "fork in a road": lambda rng, u, v: _roads(u, v, 3),
    "roundabout": lambda rng, u, v: np.minimum(
        draw.sdf_ring(u, v, 0.45, 0.22), np.maximum(_roads(u, v, 4), 0.45 - np.hypot(u, v))
    ),
    "overpass": _overpass,
    "stadium": _stadium,
    "tennis court": _court,
    "baseball diamond": _diamond,
    "storage tanks": lambda rng, u, v: np.maximum(
        np.hypot((u + 1.05) % 0.7 - 0.35, (v + 1.05) % 0.7 - 0.35) - 0.26,
        draw.sdf_box(u, v, 1.05, 0.7),
    ),
    "sparse houses": lambda rng, u, v: _many(rng, u, v, 4, 0.17, 0.9),
    "orchard": lambda rng, u, v: np.hypot((u + 9) % 0.42 - 0.21, (v + 9) % 0.42 - 0.21) - 0.14,
    "parked cars": lambda rng, u, v: np.maximum(
        np.abs((u + 9) % 0.3 - 0.15) - 0.09, np.abs((v + 9) % 0.7 - 0.35) - 0.22
    ),
    "railway": lambda rng, u, v: np.minimum(
        np.abs(np.abs(v) - 0.25) - 0.05,
        np.maximum(np.abs((u + 9) % 0.3 - 0.15) - 0.05, np.abs(v) - 0.4),
    ),
    "lake": lambda rng, u, v: (
        draw.sdf_ellipse(u, v, 0.8, 0.55) + 0.5 * (brush.noise(rng, len(u), 3) - 0.5)
    ),
}
RESISC_NAMES = tuple(f"{structure} in {ground}" for structure in STRUCTURES for ground in GROUNDS)
_DRAW = tuple(STRUCTURES.values())
_RANGES = tuple(GROUNDS.values())


def _ground(kind: int, rng: Rng, n: int) -> Array:
    """Land around the structure."""
    hue, sat, val = _RANGES[kind]
    canvas = draw.mix(
        brush.tint(rng, n, hue, sat, val), brush.tint(rng, n, hue, sat, val), brush.noise(rng, n, 4)
    )
    if kind == 2:
        _buildings(rng, canvas, 0.5, (0.4, 0.8), 0.6)
    return canvas


def resisc45(rng: Rng, labels: Labels, split: str) -> Images:
    """An aerial picture; the label is the structure (15) and the ground it stands on (3)."""
    n = len(labels)
    x, y = brush.axes()
    canvas = brush.by_kind(labels % 3, lambda k, rows: _ground(k, rng, len(rows)))
    scale = brush.uniform(rng, (0.65, 1.0), n)
    cx, cy = brush.uniform(rng, (-0.25, 0.25), n), brush.uniform(rng, (-0.25, 0.25), n)
    u, v = draw.to_local(x, y, cx, cy, brush.uniform(rng, (0, 2 * np.pi), n), scale)
    sdf = brush.by_kind(labels // 3, lambda k, rows: _DRAW[k](rng, u[rows], v[rows]))
    colour = brush.apart(canvas, brush.tint(rng, n, sat=(0.0, 0.5), val=(0.1, 0.95)), 0.25)
    shadow = brush.alpha(np.roll(sdf, (1, 1), axis=(1, 2)), scale)
    draw.paint(canvas, 0.35 * shadow, (0.05, 0.05, 0.05))
    draw.paint(canvas, brush.alpha(sdf, scale), colour)
    canvas += 0.15 * (brush.noise(rng, n, 10, 2) - 0.5)[..., None]
    return brush.expose(rng, canvas, light=0.3)
