"""Small drawing helpers that the tasks share; everything is drawn at 32 x 32 with soft edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from data_prep.embedded import draw
from data_prep.embedded.draw import SIZE, Array, Images, Param, Rng

Range = tuple[float, float]

PIXEL = 2.0 / SIZE


def axes() -> tuple[Array, Array]:
    """Return the x and y coordinates of the pixels, each (1, 32, 32), in [-1, 1]."""
    return draw.grid(SIZE)


def uniform(rng: Rng, bounds: Range, n: int) -> Array:
    """Draw n numbers, uniform between two bounds."""
    return rng.uniform(bounds[0], bounds[1], n).astype(np.float32)


def alpha(sdf: Array, scale: Param = 1.0, soft: float = PIXEL) -> Array:
    """Turn a distance in a frame of a scale into an opacity with a one-pixel edge."""
    return draw.coverage(sdf * draw.per_image(scale), soft)


def fold(u: Array) -> Array:
    """Absolute value: draws what lies on the right on the left too."""
    return np.abs(u)


def noise(rng: Rng, n: int, cells: int = 3, octaves: int = 3) -> Array:
    """Smooth noise (N, 32, 32), stretched so that it uses most of [0, 1]."""
    field = draw.fractal_noise(rng, n, cells, octaves, size=SIZE)
    return np.clip(0.5 + 1.7 * (field - 0.5), 0.0, 1.0)


def tint(
    rng: Rng, n: int, hue: Range = (0.0, 1.0), sat: Range = (0.2, 0.8), val: Range = (0.3, 0.9)
) -> Array:
    """Draw n colours (N, 3) from ranges of hue, saturation and value."""
    return draw.hsv_to_rgb(uniform(rng, hue, n), uniform(rng, sat, n), uniform(rng, val, n))


def clutter(rng: Rng, n: int, sat: Range = (0.1, 0.6), val: Range = (0.2, 0.9)) -> Array:
    """Return n blotchy backgrounds of two random colours each."""
    first, second = tint(rng, n, sat=sat, val=val), tint(rng, n, sat=sat, val=val)
    return draw.mix(first, second, noise(rng, n))


def apart(canvas: Array, colours: Array, gap: float = 0.25) -> Array:
    """Darken or lighten colours (N, 3) until they stand out from the mean of their canvas."""
    behind, own = _luma(canvas.mean(axis=(1, 2))), _luma(colours)
    sign = np.where(own >= behind, 1.0, -1.0)
    sign = np.where(
        behind + sign * gap > 0.95, -1.0, np.where(behind + sign * gap < 0.05, 1.0, sign)
    )
    lack = np.maximum(gap - sign * (own - behind), 0.0)
    return np.clip(colours + (sign * lack)[:, None], 0.0, 1.0).astype(np.float32)


def _luma(colours: Array) -> Array:
    """Brightness of colours (N, 3)."""
    red, green, blue = (np.float32(weight) for weight in (0.3, 0.6, 0.1))
    return draw.fma(colours[:, 2], blue, draw.fma(colours[:, 1], green, colours[:, 0] * red))


def expose(rng: Rng, canvas: Array, grain: float = 0.03, light: float = 0.2) -> Images:
    """Light the scene from a random side, vary exposure and colour cast, add grain."""
    n = canvas.shape[0]
    x, y = axes()
    field = draw.light(x, y, uniform(rng, (0, 2 * np.pi), n), uniform(rng, (0, light), n))
    field = field * draw.per_image(uniform(rng, (1 - light, 1 + light), n))
    draw.shade(canvas, field)
    canvas *= draw.as_colour(1.0 + 0.3 * light * rng.standard_normal((n, 3)))
    if grain:
        canvas += grain * rng.standard_normal(canvas.shape, dtype=np.float32)
    return draw.to_uint8(canvas, factor=1)


def by_kind(
    kinds: npt.NDArray[np.integer], one: Callable[[int, npt.NDArray[np.intp]], Array]
) -> Array:
    """Draw each kind once, for the rows of that kind, and put the fields back in order."""
    out: Array | None = None
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        part = one(int(kind), rows)
        if out is None:
            out = np.empty((len(kinds), *part.shape[1:]), dtype=np.float32)
        out[rows] = part
    assert out is not None
    return out


def heart_contour(steps: int = 256) -> Array:
    """Radius over the angle of a heart about its centroid, largest radius 1, point downwards."""
    t = np.linspace(-np.pi, np.pi, 4096, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return _radial(x, y, steps)


def drop_contour(steps: int = 256) -> Array:
    """Radius over the angle of a drop about its centroid, its tip upwards."""
    t = np.linspace(-np.pi, np.pi, 4096, endpoint=False)
    return _radial(np.sin(t) * np.sin(t / 2) ** 2 * 1.1, np.cos(t) * -1.0, steps)


def _radial(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], steps: int) -> Array:
    """Resample a closed curve to its radius over the angle about the centroid of its area."""
    nx, ny = np.roll(x, -1), np.roll(y, -1)
    cross = x * ny - nx * y
    cx, cy = (((x + nx) * cross).sum(), ((y + ny) * cross).sum()) / (3.0 * cross.sum())
    angles = np.linspace(-np.pi, np.pi, steps, endpoint=False)
    theta, radius = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
    order = np.argsort(theta)
    table = np.interp(angles, theta[order], radius[order], period=2 * np.pi)
    return (table / table.max()).astype(np.float32)
