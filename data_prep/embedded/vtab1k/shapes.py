"""A library of named outlines in a unit frame, for the tasks that ask what an object is."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array

Outline = Callable[[Array, Array], Array]


def _join(*parts: Array) -> Array:
    """Union of outlines."""
    return reduce(np.minimum, parts)


def _cut(first: Array, *holes: Array) -> Array:
    """The first outline less the others."""
    return reduce(lambda a, b: np.maximum(a, -b), holes, first)


def _box(u: Array, v: Array, cx: float, cy: float, a: float, b: float, r: float = 0.0) -> Array:
    return draw.sdf_box(u - cx, v - cy, a, b, r)


def _disc(u: Array, v: Array, cx: float, cy: float, r: float) -> Array:
    return draw.sdf_disc(u - cx, v - cy, r)


def _line(u: Array, v: Array, x0: float, y0: float, x1: float, y1: float, r: float = 0.12) -> Array:
    return draw.sdf_capsule(u, v, x0, y0, x1, y1, r)


def _roof(u: Array, v: Array, top: float, bottom: float, half: float) -> Array:
    """Isosceles triangle with its point up."""
    slope = half / (bottom - top)
    side = (np.abs(u) - (v - top) * slope) / np.hypot(1.0, slope)
    return np.maximum(side, v - bottom)


def _crescent(u: Array, v: Array) -> Array:
    return _cut(draw.sdf_disc(u, v, 0.95), _disc(u, v, 0.45, -0.1, 0.75))


def _fish(u: Array, v: Array) -> Array:
    return _join(draw.sdf_ellipse(u + 0.2, v, 0.75, 0.45), _roof(v, u, 0.3, 1.0, 0.55))


def _bottle(u: Array, v: Array) -> Array:
    return _join(_box(u, v, 0, 0.3, 0.42, 0.68, 0.15), _box(u, v, 0, -0.6, 0.16, 0.4))


def _mushroom(u: Array, v: Array) -> Array:
    cap = np.maximum(_disc(u, v, 0, 0, 0.9), v - 0.05)
    return _join(cap, _box(u, v, 0, 0.45, 0.24, 0.5))


def _cup(u: Array, v: Array) -> Array:
    return _join(_box(u, v, -0.2, 0, 0.55, 0.75, 0.1), draw.sdf_ring(u - 0.4, v, 0.42, 0.2))


def _house(u: Array, v: Array) -> Array:
    return _join(_box(u, v, 0, 0.4, 0.65, 0.5), _roof(u, v, -0.9, 0.0, 0.95))


def _tree(u: Array, v: Array) -> Array:
    crown = _join(_roof(u, v, -1.0, -0.1, 0.6), _roof(u, v, -0.6, 0.5, 0.8))
    return _join(crown, _box(u, v, 0, 0.7, 0.15, 0.3))


def _key(u: Array, v: Array) -> Array:
    teeth = _join(_box(u, v, 0.55, 0.2, 0.09, 0.25), _box(u, v, 0.85, 0.2, 0.09, 0.25))
    return _join(draw.sdf_ring(u + 0.55, v, 0.33, 0.22), _box(u, v, 0.35, 0, 0.6, 0.12), teeth)


def _hammer(u: Array, v: Array) -> Array:
    return _join(_box(u, v, 0, -0.65, 0.7, 0.26), _box(u, v, 0, 0.2, 0.14, 0.8))


def _arrow(u: Array, v: Array) -> Array:
    return _join(_roof(u, v, -1.0, -0.1, 0.75), _box(u, v, 0, 0.4, 0.24, 0.6))


def _boat(u: Array, v: Array) -> Array:
    hull = np.maximum(_disc(u, v, 0, 0.2, 0.8), 0.35 - v)
    return _join(hull, np.maximum(_roof(u, v, -1.0, 0.2, 0.7), -u))


def _lamp(u: Array, v: Array) -> Array:
    shade = np.maximum(_roof(u, v, -1.4, 0.0, 0.85), -0.85 - v)
    return _join(shade, _box(u, v, 0, 0.4, 0.1, 0.5), _box(u, v, 0, 0.9, 0.5, 0.1))


def _chair(u: Array, v: Array) -> Array:
    legs = _join(_box(u, v, -0.5, 0.55, 0.11, 0.45), _box(u, v, 0.5, 0.55, 0.11, 0.45))
    return _join(_box(u, v, -0.5, -0.35, 0.11, 0.6), _box(u, v, 0, 0.15, 0.6, 0.14), legs)


def _umbrella(u: Array, v: Array) -> Array:
    top = np.maximum(_disc(u, v, 0, 0, 0.95), v + 0.1)
    return _join(top, _box(u, v, 0, 0.4, 0.08, 0.5), _box(u, v, 0.15, 0.88, 0.2, 0.09))


def _butterfly(u: Array, v: Array) -> Array:
    w = brush.fold(u)
    return _join(
        draw.sdf_ellipse(w - 0.5, v + 0.35, 0.45, 0.5),
        draw.sdf_ellipse(w - 0.4, v - 0.45, 0.32, 0.38),
        _box(u, v, 0, 0, 0.1, 0.7, 0.1),
    )


def _cloud(u: Array, v: Array) -> Array:
    return _join(
        _disc(u, v, -0.5, 0.15, 0.42), _disc(u, v, 0.05, -0.15, 0.55), _disc(u, v, 0.58, 0.2, 0.38)
    )


def _plane(u: Array, v: Array) -> Array:
    wings = np.maximum(_roof(u, v, -0.45, 0.3, 1.0), -0.4 - v)
    return _join(draw.sdf_ellipse(u, v, 0.18, 0.95), wings, _box(u, v, 0, 0.8, 0.4, 0.1))


def _gear(u: Array, v: Array) -> Array:
    return _cut(draw.sdf_star(u, v, 9, 1.0, 0.7), draw.sdf_disc(u, v, 0.3))


def _hourglass(u: Array, v: Array) -> Array:
    waist = np.abs(u) - 0.15 - 0.65 * np.abs(v)
    return np.maximum(waist * 0.8, np.abs(v) - 0.9)


def _snail(u: Array, v: Array) -> Array:
    shell = _cut(_disc(u, v, 0.2, -0.1, 0.6), draw.sdf_ring(u - 0.2, v + 0.1, 0.32, 0.14))
    return _join(
        shell, _box(u, v, -0.1, 0.62, 0.85, 0.16, 0.1), _line(u, v, -0.8, 0.5, -0.75, -0.1)
    )


def _bone(u: Array, v: Array) -> Array:
    knobs = _join(_disc(np.abs(u), np.abs(v), 0.7, 0.2, 0.27))
    return _join(knobs, _box(u, v, 0, 0, 0.7, 0.16))


def _anchor(u: Array, v: Array) -> Array:
    arc = np.maximum(draw.sdf_ring(u, v - 0.1, 0.75, 0.22), 0.25 - v)
    return _join(arc, _box(u, v, 0, 0.1, 0.1, 0.8), _box(u, v, 0, -0.35, 0.4, 0.1))


def _fork(u: Array, v: Array) -> Array:
    tines = _box(np.abs(np.abs(u) - 0.22), v, 0.22, -0.6, 0.1, 0.4)
    return _join(tines, _box(u, v, 0, -0.15, 0.54, 0.13), _box(u, v, 0, 0.45, 0.12, 0.55))


def _car(u: Array, v: Array) -> Array:
    wheels = _disc(np.abs(u), v, 0.52, 0.45, 0.24)
    return _join(
        _box(u, v, 0, 0.15, 0.95, 0.25, 0.1), _box(u, v, -0.05, -0.2, 0.5, 0.28, 0.15), wheels
    )


def _bird(u: Array, v: Array) -> Array:
    body = _join(draw.sdf_ellipse(u, v - 0.1, 0.6, 0.38), _disc(u, v, 0.55, -0.35, 0.27))
    return _join(
        body, _line(u, v, -0.5, 0.0, -0.95, -0.35, 0.13), _line(u, v, 0.0, 0.4, 0.0, 0.9, 0.08)
    )


def _giraffe(u: Array, v: Array) -> Array:
    legs = _join(_box(np.abs(u), v, 0.4, 0.6, 0.1, 0.4))
    return _join(
        _box(u, v, 0, 0.1, 0.5, 0.22),
        legs,
        _line(u, v, 0.4, 0.0, 0.6, -0.8),
        _box(u, v, 0.72, -0.8, 0.25, 0.13),
    )


SHAPES: dict[str, Outline] = {
    "ball": lambda u, v: draw.sdf_disc(u, v, 0.85),
    "brick": lambda u, v: draw.sdf_box(u, v, 0.95, 0.55),
    "pyramid": lambda u, v: _roof(u, v, -0.8, 0.7, 0.95),
    "star": lambda u, v: draw.sdf_star(u, v, 5, 1.0, 0.42),
    "heart": lambda u, v: draw.sdf_radial(u, v, brush.heart_contour()),
    "crescent": _crescent,
    "ring": lambda u, v: draw.sdf_ring(u, v, 0.7, 0.4),
    "cross": lambda u, v: _join(draw.sdf_box(u, v, 0.9, 0.3), draw.sdf_box(u, v, 0.3, 0.9)),
    "fish": _fish,
    "bottle": _bottle,
    "mushroom": _mushroom,
    "cup": _cup,
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "butterfly": _butterfly,
    "hourglass": _hourglass,
    "bone": _bone,
    "car": _car,
    "bird": _bird,
    "key": _key,
    "hammer": _hammer,
    "arrow": _arrow,
    "lamp": _lamp,
    "chair": _chair,
    "umbrella": _umbrella,
    "cloud": _cloud,
    "plane": _plane,
    "gear": _gear,
    "snail": _snail,
    "anchor": _anchor,
    "fork": _fork,
    "giraffe": _giraffe,
    "drop": lambda u, v: draw.sdf_radial(u, v, brush.drop_contour()),
}
