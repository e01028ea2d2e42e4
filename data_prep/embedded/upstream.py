"""Images and labels for pre-training: what the small backbones learn from before any downstream task.

An image is a background of one or more materials with up to four objects of fixed shape categories on it.
The labels say *what* is there and *of what it is made*: shape categories, materials, the background's
palette, how the picture was taken (its style); as maps, which of them covers each place. No label is a
count, a distance, a position bin, an orientation or a viewpoint: the downstream tasks ask for those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded import draw, library
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.embedded.library import MATERIALS, PALETTES, SHAPES, STYLES, Library

Labels = npt.NDArray[np.uint8]

SIZE = 40
CANVAS = SIZE * draw.SUPERSAMPLING
MAP = SIZE // 2
NO_SHAPE = SHAPES
_OBJECTS = (0.05, 0.5, 0.27, 0.12, 0.06)
_LAYOUTS = (0.5, 0.25, 0.25)


@dataclass(frozen=True)
class Scenes:
    """A batch of pre-training images, a little larger than the network's input so that it can be cropped.

    Attributes:
        images: (N, 3, SIZE, SIZE).
        shapes: shape category at each place (N, MAP, MAP); ``NO_SHAPE`` is background.
        materials: material at each place (N, MAP, MAP).
        palette: palette of the background (N,).
        style: index into ``STYLES`` (N,).
    """

    images: Images
    shapes: Labels
    materials: Labels
    palette: Labels
    style: Labels


def generate(lib: Library, n: int, seed: int, chunk: int) -> Scenes:
    """Draw n scenes; the same (seed, chunk) gives the same scenes."""
    rng = np.random.default_rng([seed, 2, chunk])
    palette = rng.integers(PALETTES, size=n)
    canvas, materials = _background(rng, lib, palette)
    shapes = np.full((n, MAP, MAP), NO_SHAPE, dtype=np.uint8)
    count = rng.choice(len(_OBJECTS), size=n, p=_OBJECTS)
    for layer in range(len(_OBJECTS) - 1):
        rows = np.flatnonzero(count > layer)
        _add_object(rng, lib, canvas, rows, count[rows], shapes, materials)
    style = rng.integers(len(STYLES), size=n)
    images = _photograph(rng, canvas, style)
    return Scenes(images, shapes, materials, palette.astype(np.uint8), style.astype(np.uint8))


def _map(field: Array) -> Array:
    """Read a canvas field at the centres of the label map's cells."""
    step = CANVAS // MAP
    return field[:, step // 2 :: step, step // 2 :: step]


def _texture(
    rng: Rng, lib: Library, material: npt.NDArray[np.int64], palette: npt.NDArray[np.int64]
) -> Array:
    """Cover whole canvases with materials, each coloured by its palette: (N, CANVAS, CANVAS, 3)."""
    n = len(material)
    tile = rng.integers(library.TILES_EACH, size=n)
    oy, ox = rng.integers(library.TILE - CANVAS + 1, size=(2, n))
    windows = np.lib.stride_tricks.sliding_window_view(lib.tiles, (CANVAS, CANVAS), axis=(2, 3))
    value = windows[material, tile, oy, ox].astype(np.float32) * np.float32(1 / 255)
    contrast = rng.uniform(0.15, 1.0, n)
    shift = rng.uniform(-0.5, 0.5, n) * (1 - contrast * (material > 0))
    value = np.clip(0.5 + draw.per_image(contrast) * (value - 0.5) + draw.per_image(shift), 0, 1)
    stops = lib.palettes[palette] + rng.normal(0, 1, (n, 3, 3)) * np.asarray([0.015, 0.06, 0.06])
    rgb = draw.hsv_to_rgb(stops[..., 0] % 1.0, *np.clip(stops[..., 1:], 0, 1).transpose(2, 0, 1))
    # Where the value lies between the three stops says how much of each: two ramps and the rest.
    upper = np.clip(2 * value - 1, 0, 1)[..., None]
    lower = np.clip(1 - 2 * value, 0, 1)[..., None]
    first, middle, last = (draw.as_colour(rgb[:, stop]) for stop in range(3))
    return middle + lower * (first - middle) + upper * (last - middle)


def _background(rng: Rng, lib: Library, palette: npt.NDArray[np.int64]) -> tuple[Array, Labels]:
    """One material, two that meet at a wavy horizon, or a patchwork of two."""
    n = len(palette)
    x, y = draw.grid(CANVAS)
    material = rng.integers(MATERIALS, size=(2, n))
    material[rng.random((2, n)) < 0.22] = 0
    canvas = _texture(rng, lib, material[0], palette)
    chosen = np.broadcast_to(material[0][:, None, None], (n, MAP, MAP)).astype(np.uint8)
    layout = rng.choice(3, size=n, p=_LAYOUTS)
    for kind in (1, 2):
        rows = np.flatnonzero(layout == kind)
        m = len(rows)
        if kind == 1:
            _, v = draw.to_local(x, y, 0.0, rng.uniform(-0.6, 0.6, m), rng.normal(0, 0.15, m))
            wave = draw.fractal_noise(rng, m, 3, 2, size=CANVAS) - 0.5
            inside = draw.coverage(-v + wave * draw.per_image(rng.uniform(0, 0.5, m)), 0.05)
        else:
            px, py = rng.uniform(-1, 1, (2, m, 6)).astype(np.float32)
            nearest, _, _ = draw.voronoi(x, y, px, py)
            inside = (nearest < 3).astype(np.float32)
        texture = _texture(rng, lib, material[1, rows], palette[rows])
        canvas[rows] += inside[..., None] * (texture - canvas[rows])
        other = material[1, rows][:, None, None]
        chosen[rows] = np.where(_map(inside) > 0.5, other, chosen[rows])
    draw.shade(canvas, draw.light(x, y, rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 0.35, n)))
    return canvas, chosen


def _add_object(
    rng: Rng,
    lib: Library,
    canvas: Array,
    rows: npt.NDArray[np.int64],
    crowd: npt.NDArray[np.int64],
    shapes: Labels,
    materials: Labels,
) -> None:
    """Draw one object into each of the given rows and note it in the label maps."""
    n = len(rows)
    x, y = draw.grid(CANVAS)
    category = rng.integers(SHAPES, size=n)
    material = rng.integers(MATERIALS, size=n)
    material[rng.random(n) < 0.6] = 0
    scale = np.exp(rng.uniform(np.log(0.3), np.log(0.8), n)) * (1.1 - 0.1 * crowd)
    cx, cy = rng.uniform(-0.65, 0.65, (2, n))
    u, v = draw.to_local(x, y, cx, cy, rng.normal(0, 0.45, n), scale)
    stretch = draw.per_image(np.exp(rng.normal(0, 0.12, n)))
    u, v = u * stretch + v * draw.per_image(rng.normal(0, 0.12, n)), v / stretch
    sdf = library.sample(lib.shapes, category[:, None, None], u, v) * draw.per_image(scale)
    solid = draw.coverage(sdf, 2.5 / CANVAS)
    outline_only = rng.random(n) < 0.1
    alpha = np.where(outline_only[:, None, None], draw.coverage(np.abs(sdf) - 0.05), solid)

    here = canvas[rows]
    shadow = draw.coverage(sdf - 0.03, 0.15) * draw.per_image(0.5 * (rng.random(n) < 0.3))
    draw.shade(here, 1.0 - shadow)
    texture = _texture(rng, lib, material, rng.integers(PALETTES, size=n))
    direction = rng.uniform(0, 2 * np.pi, n)
    bulge = draw.light(u, v, direction, rng.choice([0.0, 0.25, 0.5], n))
    rim = draw.coverage(np.abs(sdf) - 0.02, 0.06) * draw.per_image(0.8 * (rng.random(n) < 0.25))
    draw.shade(texture, bulge * (1.0 - rim))
    draw.paint(here, alpha * draw.per_image(rng.choice([1.0, 1.0, 0.8], n)), texture)
    canvas[rows] = here
    covered = _map(solid) > 0.5
    shapes[rows] = np.where(covered, category[:, None, None], shapes[rows])
    materials[rows] = np.where(covered, material[:, None, None], materials[rows])


def _photograph(rng: Rng, canvas: Array, style: npt.NDArray[np.int64]) -> Images:
    """Average down to the final size and apply the style: blur, grain, haze, vignette or grey."""
    image = draw.downsample(np.clip(canvas, 0.0, 1.0))
    x, y = draw.grid(SIZE)
    rows = {name: np.flatnonzero(style == index) for index, name in enumerate(STYLES)}
    strength = draw.per_image(rng.uniform(0.4, 1.0, len(style)))[..., None]

    r = rows["blurred"]
    soft = image[r]
    for axis in (1, 2):
        soft = 0.5 * soft + 0.25 * (np.roll(soft, 1, axis) + np.roll(soft, -1, axis))
    image[r] += strength[r] * (soft - image[r])
    r = rows["grainy"]
    image[r] += 0.12 * strength[r] * draw.white_noise(rng, len(r), SIZE, 3)
    r = rows["hazy"]
    veil = draw.hsv_to_rgb(rng.random(len(r)), 0.25, rng.uniform(0.2, 0.9, len(r)))
    image[r] += 0.7 * strength[r] * (draw.as_colour(veil) - image[r])
    r = rows["vignetted"]
    image[r] *= 1.0 - 0.6 * strength[r] * np.minimum(x**2 + y**2, 1.4)[..., None]
    r = rows["desaturated"]
    grey = image[r].mean(axis=-1, keepdims=True)
    image[r] += strength[r] * (grey - image[r])
    return draw.to_uint8(image, factor=1)
