"""SmallNORB: grey toys made of boxes, cast by rays; their azimuth and the camera's elevation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

AZIMUTHS = 18  # every 20 degrees
ELEVATIONS = 9  # 30 to 70 degrees, every 5

# The five categories of SmallNORB as boxes (centre x, y, z, half-sides x, y, z): x forward, z up.
TOYS: dict[str, tuple[tuple[float, ...], ...]] = {
    "animal": (
        (0.0, 0.0, 0.1, 0.6, 0.24, 0.22),
        (0.72, 0.0, 0.45, 0.26, 0.18, 0.2),
        (0.45, 0.0, -0.35, 0.1, 0.22, 0.3),
        (-0.45, 0.0, -0.35, 0.1, 0.22, 0.3),
        (-0.8, 0.0, 0.25, 0.22, 0.06, 0.06),
    ),
    "human": (
        (0.0, 0.0, 0.1, 0.18, 0.34, 0.42),
        (0.03, 0.0, 0.72, 0.18, 0.18, 0.2),
        (0.0, 0.0, -0.6, 0.14, 0.3, 0.34),
        (0.45, -0.36, 0.3, 0.5, 0.1, 0.1),
        (0.3, 0.1, -0.88, 0.3, 0.22, 0.08),
    ),
    "airplane": (
        (0.0, 0.0, 0.0, 0.95, 0.15, 0.15),
        (0.15, 0.0, 0.0, 0.22, 0.95, 0.05),
        (-0.8, 0.0, 0.3, 0.14, 0.05, 0.3),
        (-0.8, 0.0, 0.1, 0.14, 0.4, 0.04),
        (0.55, 0.0, 0.18, 0.18, 0.11, 0.08),
    ),
    "truck": (
        (0.62, 0.0, -0.12, 0.24, 0.34, 0.3),
        (-0.25, 0.0, 0.1, 0.58, 0.38, 0.46),
        (0.92, 0.0, -0.28, 0.12, 0.3, 0.14),
        (0.0, 0.0, -0.5, 0.8, 0.3, 0.1),
    ),
    "car": (
        (0.0, 0.0, -0.15, 0.9, 0.4, 0.18),
        (-0.2, 0.0, 0.18, 0.42, 0.34, 0.17),
        (-0.82, 0.0, 0.2, 0.07, 0.38, 0.06),
        (0.6, 0.0, -0.38, 0.15, 0.44, 0.14),
        (-0.6, 0.0, -0.38, 0.15, 0.44, 0.14),
    ),
}
BOXES = max(len(boxes) for boxes in TOYS.values())


@dataclass(frozen=True)
class Camera:
    """Unit vectors (N, 3) of a camera that looks at the origin."""

    right: Array
    up: Array
    towards: Array


def camera(azimuth: Array, elevation: Array) -> Camera:
    """Return the camera at an azimuth and an elevation (radians)."""
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    zero = np.zeros_like(ca)
    return Camera(
        right=np.stack([-sa, ca, zero], axis=1).astype(np.float32),
        up=np.stack([-se * ca, -se * sa, ce], axis=1).astype(np.float32),
        towards=np.stack([ce * ca, ce * sa, se], axis=1).astype(np.float32),
    )


def toys(rng: Rng, n: int) -> Array:
    """Draw n toys (N, BOXES, 6) of random categories with individual proportions."""
    table = np.zeros((len(TOYS), BOXES, 6), dtype=np.float32)
    table[:, :, 0] = 50.0  # an absent box lies out of sight
    for row, boxes in enumerate(TOYS.values()):
        table[row, : len(boxes)] = boxes
    chosen = table[rng.integers(0, len(TOYS), n)]
    chosen[:, :, 3:] *= rng.uniform(0.75, 1.3, (n, BOXES, 3)).astype(np.float32)
    stretch = rng.uniform(0.85, 1.15, (n, 1, 3)).astype(np.float32)
    return chosen * np.concatenate([stretch, stretch], axis=2)


def cast(boxes: Array, view: Camera, x: Array, y: Array, light: Array, albedo: Array) -> Array:
    """Cast parallel rays at boxes.

    Args:
        boxes: (N, BOXES, 6).
        view: the camera.
        x: canvas coordinates of the rays (N, S, S) in units of the toy.
        y: the same, downwards.
        light: direction of the light (N, 3).
        albedo: grey of every box (N, BOXES).

    Returns:
        Brightness (N, S, S), -1 where no box is hit.
    """
    depth = np.full(x.shape, np.inf, dtype=np.float32)
    image = np.full(x.shape, -1.0, dtype=np.float32)
    direction = -view.towards
    direction = np.where(np.abs(direction) < 1e-4, np.float32(1e-4), direction)
    inverse = 1.0 / direction
    # Of each pair of faces of a box one is seen, so its brightness depends on the axis alone.
    lambert = 0.25 + 0.75 * np.maximum(-np.sign(direction) * light, 0.0)
    side = np.sign(direction)
    origin = [
        (x * view.right[:, k, None, None] - y * view.up[:, k, None, None])
        * inverse[:, k, None, None]
        for k in range(3)
    ]
    for b in range(boxes.shape[1]):
        entry = np.full(x.shape, -np.inf, dtype=np.float32)
        leave = np.full(x.shape, np.inf, dtype=np.float32)
        tone = np.zeros(x.shape, dtype=np.float32)
        for k in range(3):
            centre, half = boxes[:, b, k], boxes[:, b, 3 + k]
            first = ((centre - side[:, k] * half) * inverse[:, k])[:, None, None] - origin[k]
            last = first + (2.0 * half * np.abs(inverse[:, k]))[:, None, None]
            later = first > entry
            entry = np.where(later, first, entry)
            tone = np.where(later, (lambert[:, k] * albedo[:, b])[:, None, None], tone)
            leave = np.minimum(leave, last)
        seen = (entry < leave) & (entry < depth)
        depth = np.where(seen, entry, depth)
        image = np.where(seen, tone, image)
    return image


def _photograph(rng: Rng, azimuth: Array, elevation: Array) -> Images:
    """Draw one toy for each pose, under one of many lights, on a plain ground."""
    n = len(azimuth)
    view = camera(azimuth, elevation)
    mixed = rng.normal(0.0, 1.0, (3, n, 1)).astype(np.float32)
    light = 0.7 * mixed[0] * view.right + (0.7 + 0.5 * np.abs(mixed[1])) * view.up + view.towards
    light /= np.linalg.norm(light, axis=1, keepdims=True)
    scale = brush.uniform(rng, (0.62, 0.8), n)
    cx, cy = brush.uniform(rng, (-0.12, 0.12), n), brush.uniform(rng, (-0.12, 0.12), n)
    x, y = draw.to_local(*draw.grid(), cx, cy, 0.0, scale)
    albedo = rng.uniform(0.75, 1.0, (n, BOXES)).astype(np.float32)
    albedo *= brush.uniform(rng, (0.6, 1.0), n)[:, None]
    toy = cast(toys(rng, n), view, x, y, light, albedo)
    gx, gy = draw.grid()
    ground = draw.per_image(brush.uniform(rng, (0.35, 0.95), n))
    ground = ground * draw.light(gx, gy, brush.uniform(rng, (0, 2 * np.pi), n), 0.12)
    grey = draw.downsample(np.where(toy < 0.0, ground, toy))
    grey = grey + 0.02 * rng.standard_normal(grey.shape, dtype=np.float32)
    return draw.to_uint8(np.repeat(grey[..., None], 3, axis=3), factor=1)


def smallnorb_azim(rng: Rng, labels: Labels, split: str) -> Images:
    """A toy from a random height; the label is its azimuth, in steps of 20 degrees."""
    n = len(labels)
    azimuth = np.radians(20.0 * labels + brush.uniform(rng, (-4.0, 4.0), n))
    elevation = np.radians(brush.uniform(rng, (30.0, 70.0), n))
    return _photograph(rng, azimuth.astype(np.float32), elevation)


def smallnorb_elev(rng: Rng, labels: Labels, split: str) -> Images:
    """A toy turned at random; the label is the camera's elevation, in steps of 5 degrees."""
    n = len(labels)
    azimuth = brush.uniform(rng, (0.0, 2 * np.pi), n)
    elevation = np.radians(30.0 + 5.0 * labels + brush.uniform(rng, (-1.0, 1.0), n))
    return _photograph(rng, azimuth, elevation.astype(np.float32))
