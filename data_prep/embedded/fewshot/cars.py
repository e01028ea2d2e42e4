"""Cars from aside, in any colour and either direction: they differ in roof, windows, body and wheels."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.embedded.fewshot.family import either, prototypes
from data_prep.streams import Labels

CLASSES = prototypes(
    "cars",
    {
        "roof": (0.26, 0.52),  # height of the cabin
        "cabin": (0.28, 0.6),  # half its length
        "back": (-0.34, 0.0, 0.3),  # where its middle is
        "rake": (0.02, 0.36),  # how far the windows lean
        "wheel": (0.11, 0.21),
        "sill": (0.13, 0.27),  # half the height of the body
    },
    24,
)


def _cabin(u: Array, v: Array, labels: Labels) -> Array:
    """Distance to the cabin: a box whose sides lean inwards."""
    roof, half = (draw.per_image(CLASSES[name, labels]) for name in ("roof", "cabin"))
    middle, rake = (draw.per_image(CLASSES[name, labels]) for name in ("back", "rake"))
    up = np.clip(-v / roof, 0.0, 1.0)  # 0 at the body, 1 at the roof
    side = np.abs(u - middle) - (half + 0.08 - rake * up)
    return np.maximum(np.maximum(side, -roof - v), v)


def render(rng: Rng, labels: Labels) -> Images:
    """A car on a road; the label is its model."""
    n = len(labels)
    x, y = brush.axes()
    far = brush.tint(rng, n, (0.45, 0.7), (0.05, 0.35), (0.55, 0.9))
    canvas = draw.mix(far, 0.85 * far, brush.noise(rng, n))
    road = draw.sdf_half_plane(x, y - draw.per_image(brush.uniform(rng, (0.2, 0.45), n)))
    draw.paint(
        canvas, draw.coverage(road, 0.1), brush.tint(rng, n, sat=(0.0, 0.25), val=(0.25, 0.6))
    )
    scale = brush.uniform(rng, (0.82, 0.98), n)
    u, v = draw.to_local(
        x, y, brush.uniform(rng, (-0.05, 0.05), n), brush.uniform(rng, (0.02, 0.14), n),
        0.0, scale,
    )  # fmt: skip
    u = u * draw.per_image(either(rng, n))
    paint = brush.apart(canvas, brush.tint(rng, n, sat=(0.3, 0.9), val=(0.25, 0.8)), 0.3)
    sill = CLASSES["sill", labels]
    body = draw.sdf_box(u, v - draw.per_image(sill), 0.95, sill, 0.1)
    cabin = _cabin(u, v, labels)
    draw.paint(canvas, brush.alpha(np.minimum(body, cabin), scale), paint)
    glass = brush.tint(rng, n, (0.5, 0.65), (0.1, 0.4), (0.15, 0.85))
    pillar = np.abs(u - draw.per_image(CLASSES["back", labels])) - 0.03
    draw.paint(canvas, brush.alpha(np.maximum(cabin + 0.07, -pillar), scale), glass)
    wheels = draw.sdf_disc(
        brush.fold(u) - 0.56, v - draw.per_image(2.0 * sill), CLASSES["wheel", labels]
    )
    draw.paint(canvas, brush.alpha(wheels, scale), (0.08, 0.08, 0.08))
    return brush.expose(rng, canvas, grain=0.03, light=0.15)
