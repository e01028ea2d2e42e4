"""DTD: 47 described textures. The word of a class says what its pattern does; colours are free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

# A texture maps (rng, u, v) to a field in [0, 1]; u, v are rotated, shifted and scaled at random.
Texture = Callable[[Rng, Array, Array], Array]


def _warp(rng: Rng, u: Array, v: Array, amount: float, cells: int = 3) -> tuple[Array, Array]:
    """Bend the coordinates by noise."""
    n = len(u)
    du, dv = brush.noise(rng, n, cells, 2) - 0.5, brush.noise(rng, n, cells, 2) - 0.5
    return u + amount * du, v + amount * dv


def _wave(turns: npt.NDArray[np.floating]) -> Array:
    """Sine in [0, 1] of a number of turns."""
    return (0.5 + 0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)


def _bands(
    frequency: float, gain: float = 1.0, threshold: float = 0.5, bend: float = 0.0
) -> Texture:
    """Parallel bands."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        if bend:
            u, v = _warp(rng, u, v, bend)
        return draw.sharpen(draw.grating(u, v, frequency), gain, threshold)

    return texture


def _cross(
    frequency: float, gain: float, threshold: float, skew: float = np.pi / 2, op: str = "max"
) -> Texture:
    """Two sets of bands combined."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        a, b = draw.grating(u, v, frequency), draw.grating(u, v, frequency, skew)
        both = _xor(a, b) if op == "xor" else np.maximum(a, b)
        return draw.sharpen(both, gain, threshold)

    return texture


def _xor(a: Array, b: Array) -> Array:
    """Contrast of two fields: 1 where they differ."""
    return a + b - 2.0 * a * b


def _dots(
    pitch: float, radius: float, jitter: float, hollow: float = 0.0, vary: float = 0.0
) -> Texture:
    """Dots on a lattice, jittered; hollow makes rings, vary makes sizes differ."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        n = len(u)
        iu, iv = np.floor(u / pitch), np.floor(v / pitch)
        table = rng.random((3, n, 64), dtype=np.float32)
        cell = (iu.astype(np.int64) * 7 + iv.astype(np.int64) * 13) % 64
        rows = np.arange(n)[:, None, None]
        du = u - (iu + 0.5 + jitter * (table[0][rows, cell] - 0.5)) * pitch
        dv = v - (iv + 0.5 + jitter * (table[1][rows, cell] - 0.5)) * pitch
        r = radius * pitch * (1.0 + vary * (2.0 * table[2][rows, cell] - 1.0))
        sdf = np.hypot(du, dv) - r
        if hollow:
            sdf = np.abs(sdf) - hollow * pitch
        return draw.coverage(sdf, 0.09)

    return texture


def _grain(cells: int, octaves: int, gain: float, threshold: float, stretch: int = 1) -> Texture:
    """Noise, thresholded; stretch draws it out along one direction of the picture."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        n = len(u)
        field = brush.noise(rng, n, cells, octaves)
        if stretch > 1:
            columns = np.arange(draw.SIZE) // stretch
            lines = brush.noise(rng, n, cells, 2)[:, :, columns]
            field = 0.25 * field + 0.75 * lines
            flip = rng.random(n) < 0.5
            field[flip] = field[flip].transpose(0, 2, 1)
        return draw.sharpen(field, gain, threshold)

    return texture


def _veins(cells: int, width: float, octaves: int = 2, bend: float = 0.0) -> Texture:
    """Thin lines where noise crosses its middle."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        field = draw.fractal_noise(rng, len(u), cells, octaves, size=draw.SIZE)
        if bend:
            field = _wave(bend * u + field * 2.0)
        return 1.0 - draw.sharpen(np.abs(field - 0.5), 0.5 / width, width)

    return texture


def _cells(points: int, mode: str, regular: bool = False) -> Texture:
    """Voronoi cells: their walls, their facets or their domes."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        n = len(u)
        side = int(np.ceil(np.sqrt(points)))
        at = (np.arange(side) + 0.5) / side * 2.8 - 1.4
        gx, gy = np.meshgrid(at, at)
        shift = (np.arange(side) % 2)[:, None] * (1.4 / side) if regular else 0.0
        noise = 0.0 if regular else 1.0 / side
        px = (gx + shift).ravel() + noise * rng.uniform(-1, 1, (n, side * side))
        py = gy.ravel() + noise * rng.uniform(-1, 1, (n, side * side))
        index, first, second = draw.voronoi(u, v, px.astype(np.float32), py.astype(np.float32))
        if mode == "walls":
            return draw.coverage((second - first) - 0.12, 0.1)
        if mode == "facets":
            tones = rng.random((n, side * side), dtype=np.float32)
            return tones[np.arange(n)[:, None, None], index]
        return np.clip(1.0 - first * side / 1.6, 0.0, 1.0)

    return texture


def _polar(kind: str, arms: float) -> Texture:
    """Patterns around a centre: spirals, webs, whorls."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        r, theta = np.hypot(u, v), np.arctan2(v, u)
        if kind == "spiral":
            return _wave(r * 2.2 + arms / 6.2832 * theta)
        if kind == "web":
            spokes = np.abs(np.sin(arms * theta)) * r - 0.07
            rings = np.abs(((r * 2.6) % 1.0) - 0.5) * 0.38 - 0.05
            return draw.coverage(np.minimum(spokes, rings), 0.08)
        u, v = _warp(rng, u, v, 1.4, 2)
        return _wave(1.3 * np.hypot(u, v) + arms / 6.2832 * np.arctan2(v, u))

    return texture


def _weave(pitch: float, over: float, gap: float = 0.12) -> Texture:
    """Strips that pass over and under each other."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        a, b = u / pitch, v / pitch
        fa, fb = np.abs((a % 1.0) - 0.5), np.abs((b % 1.0) - 0.5)
        up = (np.floor(a) + np.floor(b)) % 2.0
        crown = np.where(
            up > 0, np.cos(np.pi * fa) * (1 - over * fb), np.cos(np.pi * fb) * (0.65 - over * fa)
        )
        walls = np.where(up > 0, fa, fb) > 0.5 - gap
        return np.clip(np.where(walls, 0.0, crown), 0.0, 1.0).astype(np.float32)

    return texture


def _zigzag(frequency: float, tooth: float, soft: bool = False) -> Texture:
    """Bands that run in zigzags or in waves."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        wave = (
            0.3 * np.sin(2 * np.pi * u / tooth) if soft else np.abs((u / tooth) % 2.0 - 1.0) * tooth
        )
        return draw.sharpen(draw.grating(u, v + wave, frequency, np.pi / 2), 2.0)

    return texture


def _scales(pitch: float, flat: float = 1.0) -> Texture:
    """Rows of half-discs, each row shifted by half a scale."""

    def texture(rng: Rng, u: Array, v: Array) -> Array:
        row = np.floor(v / (pitch * 0.5))
        du = ((u / pitch + 0.5 * (row % 2)) % 1.0 - 0.5) * pitch
        dv = (v - row * pitch * 0.5) * flat
        return np.clip(1.15 * np.hypot(du, dv) / (0.6 * pitch), 0.0, 1.0)

    return texture


TEXTURES: dict[str, Texture] = {
    "banded": _bands(1.0, 3.0),
    "blotchy": _grain(4, 2, 4.0, 0.5),
    "braided": _zigzag(1.4, 0.45),
    "bubbly": _dots(0.5, 0.36, 0.5, 0.07, 0.4),
    "bumpy": _grain(7, 1, 1.2, 0.5),
    "chequered": _cross(1.2, 8.0, 0.5, op="xor"),
    "cobwebbed": _polar("web", 4.0),
    "cracked": _cells(16, "walls"),
    "crosshatched": _cross(3.0, 3.0, 0.8, 1.1),
    "crystalline": _cells(36, "facets"),
    "dotted": _dots(0.4, 0.27, 0.1),
    "fibrous": _grain(10, 2, 1.5, 0.5, stretch=8),
    "flecked": _grain(11, 1, 6.0, 0.72),
    "freckled": _dots(0.33, 0.3, 0.9, 0.0, 0.5),
    "frilly": _zigzag(1.8, 0.55, soft=True),
    "gauzy": _cross(4.2, 0.8, 0.6),
    "grid": _cross(1.5, 5.0, 0.9),
    "grooved": _bands(2.0, 3.0, 0.85),
    "honeycombed": _cells(25, "walls", regular=True),
    "interlaced": _weave(0.42, 0.9, 0.16),
    "knitted": _zigzag(2.6, 0.25),
    "lacelike": _dots(0.38, 0.33, 0.0, 0.1),
    "lined": _bands(3.4, 3.0, 0.7),
    "marbled": _veins(2, 0.09, 3, bend=1.0),
    "matted": _veins(8, 0.07, 2),
    "meshed": _cross(2.4, 4.0, 0.88, np.pi / 3),
    "paisley": _polar("whorl", 1.0),
    "perforated": _dots(0.62, 0.26, 0.0),
    "pitted": _dots(0.5, 0.22, 1.0, 0.0, 0.7),
    "pleated": _bands(1.6, 0.7),
    "polka-dotted": _dots(0.85, 0.34, 0.0),
    "porous": _grain(8, 2, 5.0, 0.35),
    "potholed": _grain(3, 2, 7.0, 0.72),
    "scaly": _scales(0.55),
    "smeared": _grain(5, 2, 1.5, 0.5, stretch=3),
    "spiralled": _polar("spiral", 1.0),
    "sprinkled": _dots(0.55, 0.14, 1.0),
    "stained": _grain(2, 2, 3.0, 0.62),
    "stratified": _bands(1.5, 1.5, 0.5, bend=0.5),
    "striped": _bands(1.9, 5.0),
    "studded": _cells(36, "domes", regular=True),
    "swirly": _polar("whorl", 3.0),
    "veined": _veins(3, 0.06, 2),
    "waffled": _cross(1.3, 1.2, 0.6, op="max"),
    "woven": _weave(0.28, 0.5, 0.06),
    "wrinkled": _bands(2.2, 1.0, 0.5, bend=1.1),
    "zigzagged": _zigzag(1.0, 0.7),
}
DTD_NAMES = tuple(TEXTURES)
_DRAW = tuple(TEXTURES.values())


def dtd(rng: Rng, labels: Labels, split: str) -> Images:
    """A texture that fills the picture, turned and scaled at random, in two free colours."""
    n = len(labels)
    scale = brush.uniform(rng, (0.8, 1.25), n)
    shift = rng.uniform(-0.3, 0.3, (2, n)).astype(np.float32)
    u, v = draw.to_local(
        *brush.axes(), shift[0], shift[1], brush.uniform(rng, (0, 2 * np.pi), n), scale
    )
    field = brush.by_kind(labels, lambda k, rows: _DRAW[k](rng, u[rows], v[rows]))
    ground = brush.tint(rng, n, sat=(0.0, 0.6), val=(0.2, 0.9))
    ink = brush.tint(rng, n, sat=(0.0, 0.6), val=(0.1, 1.0))
    ink = brush.apart(draw.background(n, ground, draw.SIZE), ink, 0.35)
    swap = (rng.random(n) < 0.25)[:, None, None]  # some are printed in negative
    field = np.where(swap, 1.0 - field, field)
    canvas = draw.mix(ground, ink, field)
    draw.shade(canvas, 0.8 + 0.4 * brush.noise(rng, n, 2, 2))
    return brush.expose(rng, canvas, grain=0.04)
