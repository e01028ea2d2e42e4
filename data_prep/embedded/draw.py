"""Vectorised drawing primitives over a batch of small images.

Conventions, the same in every function:

* A canvas is float32 of shape (N, S, S, 3) with values in [0, 1]; S = ``CANVAS`` = 64, twice the
  size of the image.
* Coordinates lie in [-1, 1], x to the right and y downwards; the canvas is the square [-1, 1]^2.
* A per-image parameter is a scalar or an array of shape (N,); it is broadcast over the canvas.
* A signed distance function (``sdf_*``) is negative inside, positive outside, in canvas units.
* Fields (distances, noise, masks) have shape (N, S, S), or (1, S, S) where images do not differ.

A picture is made in four steps::

    x, y = grid()
    canvas = background(n, hsv_to_rgb(hue, 0.5, 0.6))
    u, v = to_local(x, y, cx, cy, angle, scale)
    paint(canvas, coverage(sdf_box(u, v, 0.4, 0.2) * scale), colour)      # scale: see ``to_local``
    images = to_uint8(canvas)                                             # (N, 3, 32, 32)
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Images: TypeAlias = npt.NDArray[np.uint8]
Param: TypeAlias = float | npt.NDArray[np.floating]
Rng: TypeAlias = np.random.Generator

SIZE = 32
SUPERSAMPLING = 2
CANVAS = SIZE * SUPERSAMPLING


def _f32(value: npt.ArrayLike) -> Array:
    """Give an expression the one type that all fields have."""
    return np.asarray(value, dtype=np.float32)


def per_image(value: Param) -> Array:
    """Reshape a scalar or an (N,) array so that it broadcasts over (N, S, S) fields."""
    array = np.asarray(value, dtype=np.float32)
    return array.reshape(-1, 1, 1) if array.ndim <= 1 else array


def as_colour(colour: npt.ArrayLike) -> Array:
    """Reshape a colour (3,), (N, 3) or (N, S, S, 3) so that it broadcasts over a canvas."""
    array = np.asarray(colour, dtype=np.float32)
    if array.ndim == 1:
        return array.reshape(1, 1, 1, 3)
    if array.ndim == 2:
        return array[:, None, None, :]
    return array


# --- canvas and coordinates ---


def grid(size: int = CANVAS) -> tuple[Array, Array]:
    """Return the x and y coordinates of the pixel centres, each (1, size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x[None], y[None]


def background(n: int, colour: npt.ArrayLike = (0.0, 0.0, 0.0), size: int = CANVAS) -> Array:
    """Return n fresh canvases filled with a colour: (3,), (N, 3) or (N, S, S, 3)."""
    canvas = np.empty((n, size, size, 3), dtype=np.float32)
    canvas[:] = as_colour(colour)
    return canvas


def to_local(
    x: Array,
    y: Array,
    cx: Param = 0.0,
    cy: Param = 0.0,
    angle: Param = 0.0,
    scale: Param = 1.0,
) -> tuple[Array, Array]:
    """Express the canvas coordinates in the frame of an object.

    Args:
        x: canvas coordinates from ``grid`` (or from another ``to_local``).
        y: the same, downwards.
        cx: the object's centre.
        cy: the object's centre.
        angle: rotation in radians, clockwise on screen because y points down.
        scale: size of one local unit on the canvas. A distance measured in the local frame times
            ``scale`` is a distance on the canvas, which is what ``coverage`` wants.

    Returns:
        Local coordinates u, v of shape (N, S, S).
    """
    dx, dy = x - per_image(cx), y - per_image(cy)
    cos, sin = np.cos(per_image(angle)), np.sin(per_image(angle))
    inverse = 1.0 / per_image(scale)
    return (cos * dx + sin * dy) * inverse, (cos * dy - sin * dx) * inverse


def downsample(canvas: Array, factor: int = SUPERSAMPLING) -> Array:
    """Average factor x factor blocks of a canvas (N, S, S, 3) or of a field (N, S, S)."""
    n, height, width = canvas.shape[:3]
    blocks = canvas.reshape(n, height // factor, factor, width // factor, factor, *canvas.shape[3:])
    return _f32(blocks.mean(axis=(2, 4), dtype=np.float32))


def to_uint8(canvas: Array, factor: int = SUPERSAMPLING) -> Images:
    """Average down, clip to [0, 1] and return images (N, 3, H, W) as uint8."""
    small = downsample(canvas, factor) if factor > 1 else canvas
    levels = (np.clip(small, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 3, 1, 2))


# --- signed distance functions ---


def sdf_disc(u: Array, v: Array, radius: Param = 1.0) -> Array:
    """Disc of a radius around the origin."""
    return np.hypot(u, v) - per_image(radius)


def sdf_ring(u: Array, v: Array, radius: Param = 1.0, thickness: Param = 0.2) -> Array:
    """Ring (annulus): a circle of a radius drawn with a pen of a thickness."""
    return _f32(np.abs(np.hypot(u, v) - per_image(radius)) - 0.5 * per_image(thickness))


def sdf_ellipse(u: Array, v: Array, a: Param = 1.0, b: Param = 0.5) -> Array:
    """Axis-aligned ellipse with half-axes a (along u) and b; first-order accurate near the edge."""
    pa, pb = per_image(a), per_image(b)
    k = np.hypot(u / pa, v / pb)
    gradient = np.hypot(u / pa**2, v / pb**2)
    return _f32(k * (k - 1.0) / np.maximum(gradient, 1e-6))


def sdf_box(u: Array, v: Array, a: Param = 1.0, b: Param = 1.0, radius: Param = 0.0) -> Array:
    """Box with half-sides a (along u) and b, its corners rounded by a radius."""
    r = per_image(radius)
    qx, qy = np.abs(u) - per_image(a) + r, np.abs(v) - per_image(b) + r
    outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0))
    return _f32(outside + np.minimum(np.maximum(qx, qy), 0.0) - r)


def sdf_half_plane(u: Array, v: Array) -> Array:
    """Half-plane v > 0 (below the local u axis: ground, water)."""
    return np.broadcast_to(-v, np.broadcast_shapes(u.shape, v.shape)).astype(np.float32)


def sdf_polygon(u: Array, v: Array, sides: Param = 5, radius: Param = 1.0) -> Array:
    """Regular polygon whose corners lie at a radius, one of them straight up."""
    sector = 2.0 * np.pi / per_image(sides)
    theta = np.arctan2(u, -v)
    folded = theta - sector * np.round(theta / sector - 0.5) - 0.5 * sector
    return _f32(np.hypot(u, v) * np.cos(folded) - per_image(radius) * np.cos(0.5 * sector))


def sdf_star(
    u: Array, v: Array, points: Param = 5, outer: Param = 1.0, inner: Param = 0.5
) -> Array:
    """Star with straight edges between outer and inner radii, a point straight up."""
    half = np.pi / per_image(points)
    theta = np.arctan2(u, -v)
    folded = np.abs(theta - 2.0 * half * np.round(theta / (2.0 * half)))
    r = np.hypot(u, v)
    px, py = r * np.cos(folded), r * np.sin(folded)
    ax = per_image(outer)
    bx, by = per_image(inner) * np.cos(half), per_image(inner) * np.sin(half)
    ex, ey = bx - ax, by
    return _f32((px - ax) * ey - py * ex) / np.maximum(np.hypot(ex, ey), 1e-6)


def sdf_capsule(
    u: Array, v: Array, x0: Param, y0: Param, x1: Param, y1: Param, radius: Param = 0.1
) -> Array:
    """Line segment from (x0, y0) to (x1, y1) with a round pen of a radius."""
    ax, ay = per_image(x0), per_image(y0)
    bx, by = per_image(x1) - ax, per_image(y1) - ay
    px, py = u - ax, v - ay
    t = np.clip((px * bx + py * by) / np.maximum(bx * bx + by * by, 1e-8), 0.0, 1.0)
    return _f32(np.hypot(px - t * bx, py - t * by) - per_image(radius))


def sdf_radial(u: Array, v: Array, contour: Array) -> Array:
    """Shape given by its radius over the angle.

    Args:
        u: local coordinates.
        v: local coordinates.
        contour: radii (K,) or (N, K) at K equal steps of the angle atan2(v, u) from -pi on.

    Returns:
        r - R(theta), corrected to first order for the slope of the contour.
    """
    table = np.atleast_2d(np.asarray(contour, dtype=np.float32))
    k = table.shape[1]
    u, v = np.broadcast_arrays(u, v)
    position = (np.arctan2(v, u) + np.float32(np.pi)) * np.float32(k / (2.0 * np.pi))
    low = np.floor(position).astype(np.int32)
    fraction = position - low
    rows = (np.arange(table.shape[0], dtype=np.int32) * k).reshape(-1, 1, 1)
    flat = table.ravel()
    first, second = flat[rows + low % k], flat[rows + (low + 1) % k]
    radius = first + fraction * (second - first)
    slope = (second - first) * np.float32(k / (2.0 * np.pi)) / np.maximum(radius, 0.05)
    return _f32(np.hypot(u, v) - radius) / np.sqrt(1.0 + slope * slope)


def superformula(
    m: Param, n1: Param, n2: Param, n3: Param, steps: int = 128, a: Param = 1.0, b: Param = 1.0
) -> Array:
    """Gielis' superformula as a contour table (N, steps) for ``sdf_radial``, largest radius 1."""
    theta = np.linspace(-np.pi, np.pi, steps, endpoint=False, dtype=np.float64)[None]
    column = [np.asarray(p, dtype=np.float64).reshape(-1, 1) for p in (m, n1, n2, n3, a, b)]
    pm, p1, p2, p3, pa, pb = column
    wave = np.abs(np.cos(pm * theta / 4) / pa) ** p2 + np.abs(np.sin(pm * theta / 4) / pb) ** p3
    radius = np.maximum(wave, 1e-9) ** (-1.0 / p1)
    return _f32(radius / radius.max(axis=1, keepdims=True))


# --- compositing ---


def coverage(sdf: Array, softness: Param = 2.0 / CANVAS) -> Array:
    """Turn a signed distance (canvas units) into an opacity in [0, 1], over an edge's softness."""
    return _f32(np.clip(0.5 - sdf / per_image(softness), 0.0, 1.0))


def paint(canvas: Array, alpha: Array, colour: npt.ArrayLike) -> None:
    """Composite a colour, or a coloured texture (N, S, S, 3), over the canvas in place."""
    canvas += alpha[..., None] * (as_colour(colour) - canvas)


def shade(canvas: Array, field: Array) -> None:
    """Multiply the canvas in place by a field (N, S, S), for instance a light or a shadow."""
    canvas *= field[..., None]


def mix(first: npt.ArrayLike, second: npt.ArrayLike, field: Array) -> Array:
    """Blend two colours by a field in [0, 1]: a texture (N, S, S, 3)."""
    a, b = as_colour(first), as_colour(second)
    return (a + field[..., None] * (b - a)).astype(np.float32)


def hsv_to_rgb(hue: Param, saturation: Param = 1.0, value: Param = 1.0) -> Array:
    """Convert hue (a full turn is 1), saturation and value, broadcast together, to (..., 3) RGB."""
    h, s, v = np.broadcast_arrays(hue, saturation, value)
    k = (np.asarray([5.0, 3.0, 1.0]) + np.asarray(h, dtype=np.float64)[..., None] * 6.0) % 6.0
    ramp = np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    rgb = np.asarray(v)[..., None] * (1.0 - np.asarray(s)[..., None] * ramp)
    return _f32(rgb)


# --- textures ---


def fma(a: Array, b: Array | np.float32, c: Array) -> Array:
    """Return a b + c in single precision, rounded once, the same on every machine.

    BLAS does it in one way on one CPU and in another on the next, and the pixels of generated images must
    not depend on it. The product of two single-precision numbers is exact in double precision.
    """
    return (a.astype(np.float64) * b + c).astype(np.float32)


ODD_COLUMNS = 33
"""In a lattice of so many columns the last is rounded twice, as it was when the images were first made."""


def _interpolated(values: Array, size: int, axis: int) -> Array:
    """Interpolate the nodes of a lattice along an axis to ``size`` pixel centres, smoothly."""
    cells = values.shape[axis] - 1
    position = (np.arange(size, dtype=np.float32) + 0.5) * (cells / size)
    low = np.minimum(position.astype(np.int64), cells - 1)
    t = (position - low).astype(np.float32)
    t = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    shape = [size if this == axis else 1 for this in range(values.ndim)]
    before, after = values.take(low, axis), values.take(low + 1, axis)
    t, first = t.reshape(shape), (1.0 - t).reshape(shape) * before
    value = fma(t, after, first)
    if axis == 1 and values.shape[2] == ODD_COLUMNS:
        value[..., -1] = first[..., -1] + t[..., 0] * after[..., -1]
    return value


def value_noise(rng: Rng, n: int, cells: int = 4, size: int = CANVAS) -> Array:
    """Smooth noise in [0, 1]: random values on a (cells + 1)^2 lattice, interpolated."""
    lattice = rng.random((n, cells + 1, cells + 1), dtype=np.float32)
    return _interpolated(_interpolated(lattice, size, axis=1), size, axis=2)


def fractal_noise(
    rng: Rng,
    n: int,
    cells: int = 2,
    octaves: int = 4,
    persistence: Param = 0.5,
    size: int = CANVAS,
) -> Array:
    """Sum octaves of value noise, each twice as fine and ``persistence`` times as strong."""
    total = np.zeros((n, size, size), dtype=np.float32)
    weight = np.ones((1, 1, 1), dtype=np.float32)
    norm = np.zeros((1, 1, 1), dtype=np.float32)
    for octave in range(octaves):
        total += weight * value_noise(rng, n, min(cells * 2**octave, size), size)
        norm = norm + weight
        weight = weight * per_image(persistence)
    return total / norm


def white_noise(rng: Rng, n: int, size: int = CANVAS, channels: int = 1) -> Array:
    """Standard normal noise (N, S, S, channels), one value a canvas pixel: film grain, clutter."""
    return rng.standard_normal((n, size, size, channels), dtype=np.float32)


def grating(
    u: Array, v: Array, frequency: Param = 4.0, angle: Param = 0.0, phase: Param = 0.0
) -> Array:
    """Sinusoidal grating in [0, 1]; frequency in cycles per unit, waves run along the angle."""
    a = per_image(angle)
    along = u * np.cos(a) + v * np.sin(a)
    wave = np.sin(2.0 * np.pi * per_image(frequency) * along + per_image(phase))
    return (0.5 + 0.5 * wave).astype(np.float32)


def checker(u: Array, v: Array, frequency: Param = 4.0) -> Array:
    """Checkerboard of 0 and 1, ``frequency`` cells per unit."""
    f = per_image(frequency)
    return _f32((np.floor(u * f) + np.floor(v * f)) % 2.0)


def sharpen(field: Array, gain: Param = 4.0, threshold: Param = 0.5) -> Array:
    """Steepen a field in [0, 1] around a threshold: waves become stripes, noise becomes blots."""
    return np.clip(0.5 + per_image(gain) * (field - per_image(threshold)), 0.0, 1.0)


def voronoi(u: Array, v: Array, px: Array, py: Array) -> tuple[npt.NDArray[np.int64], Array, Array]:
    """Voronoi cells of given points.

    Args:
        u: coordinates (1 or N, S, S).
        v: coordinates.
        px: points of every image, (N, P).
        py: points of every image, (N, P).

    Returns:
        The nearest point's index (N, S, S) and the distances to the nearest and second nearest
        points; their difference is small along the walls between cells.
    """
    shape = np.broadcast_shapes(u.shape, (px.shape[0], 1, 1))
    index = np.zeros(shape, dtype=np.int64)
    first = np.full(shape, np.inf, dtype=np.float32)
    second = np.full(shape, np.inf, dtype=np.float32)
    for p in range(px.shape[1]):
        distance = (u - per_image(px[:, p])) ** 2 + (v - per_image(py[:, p])) ** 2
        closer = distance < first
        second = np.minimum(second, np.where(closer, first, distance))
        index = np.where(closer, p, index)
        first = np.minimum(first, distance)
    return index, np.sqrt(first), np.sqrt(second)


def light(x: Array, y: Array, angle: Param, strength: Param = 0.3) -> Array:
    """Linear illumination field around 1, brighter towards the angle, for ``shade``."""
    a = per_image(angle)
    return (1.0 + per_image(strength) * (x * np.cos(a) + y * np.sin(a))).astype(np.float32)
