"""KITTI and DMLab: a road and a corridor, and how far something on them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

NO_VEHICLE = 3
VEHICLES = 3
# Metres, as in VTAB: nearer than 8, 8 to 20, beyond 20; class 3 has no vehicle.
METRES = np.asarray([[5.0, 8.0], [8.0, 20.0], [20.0, 45.0]], dtype=np.float32)
FOCAL = 3.4  # canvas units a metre at a distance of one metre


@dataclass(frozen=True)
class Traffic:
    """Vehicles of every image, fields (N, VEHICLES), from far to near; not all are present."""

    present: npt.NDArray[np.bool_]
    distance: Array
    offset: Array


def traffic(rng: Rng, labels: Labels) -> Traffic:
    """Place zero to three vehicles; the nearest has the labelled class of distance."""
    n = len(labels)
    bounds = METRES[np.minimum(labels, NO_VEHICLE - 1)]
    nearest = np.exp(rng.uniform(np.log(bounds[:, 0] * 1.02), np.log(bounds[:, 1] * 0.98)))
    others = nearest[:, None] * np.exp(rng.uniform(0.1, 1.6, (n, VEHICLES - 1)))
    distance = np.concatenate([nearest[:, None], np.minimum(others, 60.0)], axis=1)
    count = np.where(labels == NO_VEHICLE, 0, rng.integers(1, VEHICLES + 1, n))
    present = np.arange(VEHICLES)[None] < count[:, None]
    offset = np.clip(rng.uniform(-4.0, 4.0, (n, VEHICLES)), *_view(distance))
    order = np.argsort(-distance, axis=1)
    pick = [np.take_along_axis(a, order, axis=1) for a in (present, distance, offset)]
    return Traffic(pick[0].astype(bool), pick[1].astype(np.float32), pick[2].astype(np.float32))


def _view(distance: npt.NDArray[np.floating]) -> tuple[Array, Array]:
    """Return the lateral offsets between which a vehicle at a distance is wholly in the picture."""
    reach = np.maximum(0.85 * distance / FOCAL - 0.9, 0.1).astype(np.float32)
    return -reach, reach


def _street(rng: Rng, n: int, tilt: Array, bend: Array) -> Array:
    """Sky, verges with houses and trees, a road with markings."""
    x, y = brush.axes()
    canvas = draw.background(
        n, brush.tint(rng, n, (0.5, 0.65), (0.0, 0.5), (0.55, 0.95)), draw.SIZE
    )
    horizon = draw.per_image(tilt)
    verge = draw.mix(
        brush.tint(rng, n, (0.05, 0.4), (0.2, 0.6), (0.2, 0.6)),
        brush.tint(rng, n, (0.05, 0.4), (0.1, 0.5), (0.2, 0.7)),
        brush.noise(rng, n, 6),
    )
    for _ in range(6):  # what stands beside the road: blocks and crowns of random colours
        cx = brush.uniform(rng, (0.25, 1.0), n) * np.where(rng.random(n) < 0.5, -1.0, 1.0)
        half = brush.uniform(rng, (0.08, 0.3), n)
        u, v = draw.to_local(x, y, cx, tilt - 0.5 * half, 0.0, half)
        box, crown = draw.sdf_box(u, v, 1.0, 1.2), draw.sdf_disc(u, v, 1.1)
        sdf = np.where(rng.random((n, 1, 1)) < 0.5, box, crown)
        draw.paint(
            canvas, brush.alpha(sdf, half), brush.tint(rng, n, sat=(0.0, 0.6), val=(0.15, 0.7))
        )
    below = np.maximum(y - horizon, 1e-3)
    draw.paint(canvas, brush.alpha(horizon - y), verge)
    middle = x - draw.per_image(bend) * (1.0 - below)
    half_width = draw.per_image(brush.uniform(rng, (0.9, 1.5), n)) * below + 0.02
    asphalt = brush.tint(rng, n, (0.5, 0.7), (0.0, 0.15), (0.25, 0.55))
    draw.paint(canvas, brush.alpha(np.maximum(np.abs(middle) - half_width, horizon - y)), asphalt)
    phase = draw.per_image(brush.uniform(rng, (0, 1), n))
    dashes = ((0.35 / below + phase) % 1.0 < 0.5) & (y > horizon)
    line = brush.alpha(np.abs(middle) - 0.06 * below) * dashes
    draw.paint(canvas, 0.8 * line, (0.9, 0.9, 0.85))
    cast = brush.alpha(
        np.abs(y - horizon - draw.per_image(brush.uniform(rng, (0.1, 0.9), n))) - 0.06
    )
    draw.paint(
        canvas, 0.5 * cast * (rng.random((n, 1, 1)) < 0.4), (0.1, 0.1, 0.12)
    )  # a shadow across
    return canvas


def render_road(rng: Rng, cars: Traffic) -> tuple[Images, npt.NDArray[np.int64]]:
    """Draw roads with vehicles; return the images and which vehicle owns each pixel (-1: none)."""
    n = len(cars.present)
    x, y = brush.axes()
    tilt, bend = brush.uniform(rng, (-0.3, -0.1), n), brush.uniform(rng, (-0.4, 0.4), n)
    canvas = _street(rng, n, tilt, bend)
    owner = np.full((n, draw.SIZE, draw.SIZE), -1, dtype=np.int64)
    for k in range(VEHICLES):
        rows = np.flatnonzero(cars.present[:, k])
        if not len(rows):
            continue
        m, z = len(rows), cars.distance[rows, k]
        unit = FOCAL / z
        half = brush.uniform(rng, (0.8, 1.0), m)
        tall = brush.uniform(rng, (0.65, 1.0), m) * np.where(rng.random(m) < 0.2, 1.5, 1.0)
        ground = tilt[rows] + 1.35 * unit
        bent = bend[rows] * (1.0 - 1.35 * unit)
        u, v = draw.to_local(x, y, cars.offset[rows, k] * unit + bent * 0.3, ground, 0.0, unit)
        h, t = draw.per_image(half), draw.per_image(tall)
        body = draw.sdf_box(u, v + (0.1 + 0.5 * t), h, 0.5 * t, 0.1)
        roof = draw.sdf_box(u, v + t * 1.25, 0.75 * h, 0.45 * t, 0.15)
        whole = np.minimum(body, roof)
        view = canvas[rows]
        draw.paint(
            view, 0.7 * brush.alpha(draw.sdf_ellipse(u, v, 1.15 * half, 0.2), unit), (0.05,) * 3
        )
        paintwork = brush.tint(rng, m, sat=(0.0, 0.9), val=(0.15, 0.95))
        cover = brush.alpha(whole, unit)
        draw.paint(view, cover, paintwork)
        window = draw.sdf_box(u, v + 1.3 * t, 0.6 * h, 0.25 * t)
        draw.paint(view, brush.alpha(window, unit), (0.12, 0.15, 0.2))
        lamps = draw.sdf_box(brush.fold(u) - 0.8 * h, v + 0.65 * t, 0.14, 0.12)
        draw.paint(view, brush.alpha(lamps, unit), (0.9, 0.1, 0.05))
        wheels = draw.sdf_box(brush.fold(u) - 0.75 * h, v + 0.1, 0.16, 0.2)
        draw.paint(view, brush.alpha(wheels, unit), (0.05, 0.05, 0.05))
        canvas[rows] = view
        owner[rows] = np.where(cover > 0.5, k, owner[rows])
    return brush.expose(rng, canvas), owner


def kitti_dist(rng: Rng, labels: Labels, split: str) -> Images:
    """A road; the label is the class of the nearest vehicle's distance, or that there is none."""
    return render_road(rng, traffic(rng, labels))[0]


# --- the corridor -----------------------------------------------------------------------------

REACHES = np.asarray([[1.2, 1.8], [2.2, 3.3], [4.0, 5.6]], dtype=np.float32)
WALL, FLOOR = 1.3, 0.85  # half the corridor's width and height, in eye distances


def _corridor(rng: Rng, n: int, vx: Array, vy: Array) -> Array:
    """Walls, floor and ceiling, patterned in perspective and darker with the distance."""
    x, y = brush.axes()
    dx, dy = x - draw.per_image(vx), y - draw.per_image(vy)
    side = WALL / np.maximum(np.abs(dx), 1e-3)
    level = FLOOR / np.maximum(np.abs(dy), 1e-3)
    end = draw.per_image(brush.uniform(rng, (5.0, 14.0), n))
    depth = np.minimum(np.minimum(side, level), end)
    on_wall = (side < level) | (level > end)
    along = np.where((side < level) & (side < end), depth, dx * depth)
    across = np.where(on_wall, dy * depth, depth)
    freq = draw.per_image(brush.uniform(rng, (0.5, 1.6), n))
    brick = draw.sharpen(0.5 + 0.5 * np.sin(6.28 * along * freq) * np.sin(9.0 * across * freq), 3.0)
    walls = draw.mix(brush.tint(rng, n, val=(0.35, 0.9)), brush.tint(rng, n, val=(0.3, 0.9)), brick)
    paving = draw.checker(dx * depth, depth, freq)
    floor = draw.mix(brush.tint(rng, n, val=(0.3, 0.7)), brush.tint(rng, n, val=(0.3, 0.7)), paving)
    ceiling = draw.as_colour(brush.tint(rng, n, sat=(0, 0.3), val=(0.3, 0.9)))
    canvas = np.where(on_wall[..., None], walls, np.where((dy > 0)[..., None], floor, ceiling))
    canvas = np.ascontiguousarray(canvas, dtype=np.float32)
    draw.shade(canvas, np.exp(-0.13 * depth))
    return canvas


def _reward(kind: int, u: Array, v: Array) -> Array:
    """Rewards: 0-2 round and pleasant, 3-5 angular and not."""
    if kind == 0:
        return draw.sdf_disc(u, v, 0.95)
    if kind == 1:
        return draw.sdf_ring(u, v, 0.75, 0.5)
    if kind == 2:
        return np.minimum(draw.sdf_disc(u, v - 0.35, 0.65), draw.sdf_disc(u, v + 0.5, 0.5))
    if kind == 3:
        return draw.sdf_star(u, v, 4, 1.15, 0.4)
    if kind == 4:
        return draw.sdf_polygon(u, v, 3, 1.15)
    bar = draw.sdf_box(u, v, 0.95, 0.3)
    return np.minimum(bar, draw.sdf_box(u, v, 0.3, 0.95))


def dmlab(rng: Rng, labels: Labels, split: str) -> Images:
    """A corridor with an object; the label is its distance (3) and whether it is bad (2)."""
    n = len(labels)
    x, y = brush.axes()
    vx, vy = brush.uniform(rng, (-0.45, 0.45), n), brush.uniform(rng, (-0.2, 0.15), n)
    canvas = _corridor(rng, n, vx, vy)
    bad, reach = labels % 2, REACHES[labels // 2]
    z = rng.uniform(reach[:, 0], reach[:, 1]).astype(np.float32)
    size = brush.uniform(rng, (0.55, 0.75), n)
    unit = size / z
    offset = brush.uniform(rng, (-0.55, 0.55), n)
    cx = np.clip(vx + offset / z, -1 + 0.8 * unit, 1 - 0.8 * unit)
    cy = vy + (FLOOR - size + brush.uniform(rng, (-0.15, 0.0), n)) / z
    u, v = draw.to_local(x, y, cx, cy, 0.0, unit)
    kinds = rng.integers(0, 3, n) + 3 * bad
    sdf = brush.by_kind(kinds, lambda k, rows: _reward(k, u[rows], v[rows]))
    hue = np.where(bad == 1, 0.78, 0.28) + brush.uniform(rng, (-0.3, 0.3), n)
    colour = draw.hsv_to_rgb(hue % 1.0, brush.uniform(rng, (0.55, 1.0), n), 0.95)
    shadow = draw.sdf_ellipse(u, v - 1.05, 1.0, 0.25)
    draw.paint(canvas, 0.6 * brush.alpha(shadow, unit), (0.0, 0.0, 0.0))
    tone = np.clip(0.8 - 0.25 * u - 0.3 * v, 0.3, 1.2) * np.exp(-0.05 * draw.per_image(z))
    draw.paint(canvas, brush.alpha(sdf, unit), draw.as_colour(colour) * tone[..., None])
    return brush.expose(rng, canvas)
