"""Scenes as frames: every thing drawn anew at each moment, over a ground that stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images
from data_prep.embedded.msrvtt.scene import Rng, Scene, Thing

SIDE = 64
_EDGE = 2.5 / SIDE
_RADIUS = {"small": 0.25, "big": 0.4}
_LINE = 0.16
_STRIPES = 1.6

_HSV: dict[str, tuple[float, float, float]] = {
    "red": (0.99, 0.9, 0.85),
    "blue": (0.62, 0.85, 0.85),
    "green": (0.36, 0.85, 0.55),
    "yellow": (0.15, 0.9, 0.98),
    "purple": (0.78, 0.75, 0.6),
    "orange": (0.08, 0.95, 0.98),
    "white": (0.0, 0.0, 1.0),
    "black": (0.0, 0.0, 0.05),
    "pink": (0.92, 0.4, 1.0),
    "brown": (0.07, 0.7, 0.4),
    "grey": (0.0, 0.0, 0.5),
    "turquoise": (0.5, 0.8, 0.85),
    "lime": (0.25, 0.8, 0.95),
}


class Moment(NamedTuple):
    """How a thing is at each moment.

    Attributes:
        x: (N,), as all of these.
        y: Downwards.
        scale: Of its size.
        angle: In radians.
        seen: 1 where it is there, else 0.
    """

    x: Array
    y: Array
    scale: Array
    angle: Array
    seen: Array


def times(scene: Scene) -> Array:
    """Return the times of a scene's frames in seconds (N,)."""
    count = max(round(scene.seconds * scene.rate), 1)
    return (np.arange(count) / scene.rate).astype(np.float32)


def moments(thing: Thing, seconds: Array, whole: float) -> Moment:
    """Return how a thing is at some times of a clip.

    Args:
        thing: The thing.
        seconds: Times (N,).
        whole: How long the clip is.
    """
    still, one = np.zeros_like(seconds), np.ones_like(seconds)
    x, y, angle = thing.x + still, thing.y + still, thing.angle + still
    scale, seen = one, one
    part = seconds / max(whole, 1e-6)
    path = (1.5 * part - 0.75).astype(np.float32)
    if thing.motion in ("left", "right"):
        x = path if thing.motion == "right" else -path
    elif thing.motion in ("up", "down"):
        y = path if thing.motion == "down" else -path
    elif thing.motion == "bounce":
        y = y - 0.4 * np.abs(np.sin(np.pi * seconds / 2.6)) + 0.15
    elif thing.motion == "circle":
        around = 2 * np.pi * seconds / 5.3
        x, y = 0.7 * x + 0.35 * np.cos(around), 0.7 * y + 0.35 * np.sin(around)
    elif thing.motion == "turn":
        angle = angle + 2 * np.pi * seconds / 4.7
    elif thing.motion == "grow":
        scale = 0.45 + 1.05 * part
    elif thing.motion == "shrink":
        scale = 1.5 - 1.05 * part
    elif thing.motion == "blink":
        seen = (np.sin(np.pi * (seconds + 0.5)) > 0).astype(np.float32)
    return Moment(*(np.asarray(value, dtype=np.float32) for value in (x, y, scale, angle, seen)))


def frames(scene: Scene, seconds: Array | None = None) -> Images:
    """Draw a scene at its times, or at others; return uint8 (N, 3, SIDE, SIDE)."""
    at = times(scene) if seconds is None else seconds
    rng = np.random.default_rng(scene.texture)
    ground = _GROUNDS[scene.ground](rng)
    canvas = np.repeat(ground, len(at), axis=0)
    x, y = draw.grid(SIDE)
    for thing in scene.things:
        how = moments(thing, at, scene.seconds)
        radius = _RADIUS[thing.size] * how.scale
        u, v = draw.to_local(x, y, how.x, how.y, how.angle, radius)
        outside = SHAPES[thing.shape](u, v)
        if thing.pattern == "hollow":
            outside = np.maximum(outside, -outside - 2 * _LINE)
        field = draw.coverage(outside * draw.per_image(radius), _EDGE)
        field = field * draw.per_image(how.seen)
        colour = draw.hsv_to_rgb(*(np.asarray([part]) for part in _near(rng, thing.colour)))
        draw.paint(canvas, field, colour)
        if thing.pattern == "striped":
            bands = draw.coverage(np.abs(((u * _STRIPES) % 1.0) - 0.5) - 0.22, 0.12)
            other = 0.1 if colour.mean() > 0.55 else 0.95
            draw.paint(canvas, field * bands, (other, other, other))
    canvas *= np.float32(rng.uniform(0.88, 1.08))
    canvas += np.float32(0.01) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return draw.to_uint8(canvas, factor=1)


def _near(rng: Rng, colour: str) -> tuple[float, float, float]:
    """Return a colour's hue, saturation and value, not always quite the same."""
    hue, saturation, value = _HSV[colour]
    shift, fade, dim = rng.normal(0.0, [0.008, 0.03, 0.03])
    return (
        (hue + shift) % 1.0,
        float(np.clip(saturation + fade * (saturation > 0), 0, 1)),
        float(np.clip(value + dim, 0, 1)),
    )


# --- shapes: signed distances in a frame in which they reach to about 1 ---


def _cross(u: Array, v: Array) -> Array:
    return np.minimum(draw.sdf_box(u, v, 0.95, 0.34), draw.sdf_box(u, v, 0.34, 0.95))


def _moon(u: Array, v: Array) -> Array:
    return np.maximum(draw.sdf_disc(u, v, 1.0), -draw.sdf_disc(u - 0.55, v, 0.8))


def _arrow(u: Array, v: Array) -> Array:
    head = draw.sdf_polygon(v, 0.35 - u, 3, 0.85)
    return np.minimum(draw.sdf_box(u + 0.35, v, 0.65, 0.24), head)


def _flower(u: Array, v: Array) -> Array:
    angle = np.linspace(-np.pi, np.pi, 256, endpoint=False)
    return draw.sdf_radial(u, v, (0.72 + 0.28 * np.cos(5 * angle)).astype(np.float32))


def _gear(u: Array, v: Array) -> Array:
    angle = np.linspace(-np.pi, np.pi, 256, endpoint=False)
    teeth = np.where(np.cos(8 * angle) > 0, 1.0, 0.72).astype(np.float32)
    return np.maximum(draw.sdf_radial(u, v, teeth), -draw.sdf_disc(u, v, 0.3))


_HEART, _DROP = brush.heart_contour(), brush.drop_contour()

SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: draw.sdf_disc(u, v, 0.95),
    "square": lambda u, v: draw.sdf_box(u, v, 0.82, 0.82),
    "triangle": lambda u, v: draw.sdf_polygon(u, v + 0.15, 3, 1.1),
    "star": lambda u, v: draw.sdf_star(u, v, 5, 1.1, 0.45),
    "ring": lambda u, v: draw.sdf_ring(u, v, 0.78, 0.4),
    "cross": _cross,
    "heart": lambda u, v: draw.sdf_radial(u, v, _HEART),
    "moon": _moon,
    "drop": lambda u, v: draw.sdf_radial(u, v, _DROP),
    "pill": lambda u, v: draw.sdf_capsule(u, v, -0.62, 0.0, 0.62, 0.0, 0.4),
    "arrow": _arrow,
    "hexagon": lambda u, v: draw.sdf_polygon(u, v, 6, 1.0),
    "diamond": lambda u, v: draw.sdf_polygon(u * 1.35, v, 4, 1.05),
    "flower": _flower,
    "bar": lambda u, v: draw.sdf_box(u, v, 0.24, 1.0),
    "pentagon": lambda u, v: draw.sdf_polygon(u, v, 5, 1.0),
    "gear": _gear,
}


# --- grounds: (1, SIDE, SIDE, 3) ---


def _noise(rng: Rng, cells: int, octaves: int = 3) -> Array:
    return draw.fractal_noise(rng, 1, cells, octaves, size=SIDE)


def _two(rng: Rng, first: tuple[float, ...], second: tuple[float, ...], field: Array) -> Array:
    """Mix two colours, a bit lighter or darker than given, by a field."""
    light = np.float32(rng.uniform(0.92, 1.06))
    return draw.mix(first, second, np.clip(field, 0, 1)) * light


def _meadow(rng: Rng) -> Array:
    return _two(rng, (0.25, 0.42, 0.15), (0.5, 0.66, 0.3), _noise(rng, 12, 2))


def _sky(rng: Rng) -> Array:
    _, y = draw.grid(SIDE)
    clouds = np.clip(2.2 * (_noise(rng, 3) - 0.45), 0, 1)
    blue = draw.mix((0.38, 0.6, 0.9), (0.72, 0.85, 0.97), 0.5 + 0.5 * y)
    return blue + (1.0 - blue) * (0.8 * clouds)[..., None]


def _night(rng: Rng) -> Array:
    canvas = _two(rng, (0.03, 0.03, 0.1), (0.1, 0.1, 0.24), _noise(rng, 3))
    stars = rng.random((1, SIDE, SIDE)) < 0.012
    canvas[stars] = 0.9
    return canvas


def _sand(rng: Rng) -> Array:
    return _two(rng, (0.78, 0.66, 0.42), (0.93, 0.85, 0.64), _noise(rng, 5, 4))


def _wall(rng: Rng) -> Array:
    x, y = draw.grid(SIDE)
    row = np.floor((y + 1) * 4)
    joint = ((x + 1) * 2.2 + 0.5 * (row % 2) + rng.random()) % 1.0
    mortar = np.maximum(joint < 0.09, ((y + 1) * 4) % 1.0 < 0.16).astype(np.float32)
    brick = _two(rng, (0.5, 0.27, 0.2), (0.66, 0.4, 0.32), _noise(rng, 6))
    return brick + (np.float32(0.75) - brick) * mortar[..., None]


def _water(rng: Rng) -> Array:
    x, y = draw.grid(SIDE)
    wave = 0.5 + 0.5 * np.sin(14 * y + 2.5 * np.sin(3 * x + 6 * rng.random()) + 6 * rng.random())
    return _two(rng, (0.08, 0.3, 0.5), (0.3, 0.6, 0.7), 0.7 * wave + 0.3 * _noise(rng, 4))


def _snow(rng: Rng) -> Array:
    return _two(rng, (0.8, 0.86, 0.95), (0.97, 0.98, 1.0), _noise(rng, 4))


def _checks(rng: Rng) -> Array:
    x, y = draw.grid(SIDE)
    turn = rng.random(2)
    field = ((np.floor(3 * x + turn[0]) + np.floor(3 * y + turn[1])) % 2).astype(np.float32)
    return _two(rng, (0.3, 0.27, 0.25), (0.75, 0.7, 0.62), field)


def _dusk(rng: Rng) -> Array:
    _, y = draw.grid(SIDE)
    return _two(rng, (0.25, 0.16, 0.35), (0.9, 0.5, 0.3), 0.5 + 0.45 * y + 0.1 * _noise(rng, 3))


def _paper(rng: Rng) -> Array:
    return _two(rng, (0.86, 0.85, 0.8), (0.92, 0.91, 0.88), _noise(rng, 8))


_GROUNDS: dict[str, Callable[[Rng], Array]] = {
    "meadow": _meadow,
    "sky": _sky,
    "night": _night,
    "sand": _sand,
    "wall": _wall,
    "water": _water,
    "snow": _snow,
    "checks": _checks,
    "dusk": _dusk,
    "paper": _paper,
}
