"""Flowers of three colours: they differ in the number and form of their petals and in the heart."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Images, Rng
from data_prep.embedded.fewshot.family import prototypes
from data_prep.streams import Labels

CLASSES = prototypes(
    "flowers102",
    {
        "petals": (4.0, 5.0, 7.0, 9.0),
        "form": (0.45, 1.0, 2.2),  # blunt to narrow
        "depth": (0.35, 0.6),  # how deep the gaps between petals are
        "heart": (0.16, 0.32),
        "hue": (0.05, 0.78, 0.9),
        "rim": (0.0, 1.0),  # whether the tips are paler
    },
    20,
)


def render(rng: Rng, labels: Labels) -> Images:
    """A flower among leaves; the label is its species."""
    n = len(labels)
    x, y = brush.axes()
    canvas = draw.mix(
        brush.tint(rng, n, (0.2, 0.45), (0.2, 0.8), (0.1, 0.5)),
        brush.tint(rng, n, (0.15, 0.45), (0.2, 0.7), (0.3, 0.8)),
        brush.noise(rng, n, 5, 2),
    )
    scale = brush.uniform(rng, (0.8, 0.98), n)
    u, v = draw.to_local(
        x, y, brush.uniform(rng, (-0.08, 0.08), n), brush.uniform(rng, (-0.08, 0.08), n),
        brush.uniform(rng, (0.0, np.pi), n), scale,
    )  # fmt: skip
    v = v / draw.per_image(brush.uniform(rng, (0.8, 1.0), n))  # seen from aside
    r = np.hypot(u, v)
    theta = np.arctan2(v, u) + draw.per_image(brush.uniform(rng, (0.0, 2 * np.pi), n))
    petals, form, depth, heart, hue, rim = (
        draw.per_image(CLASSES[name, labels]) for name in CLASSES.values
    )
    wave = np.abs(np.cos(0.5 * petals * theta))
    reach = 1.0 - depth + depth * wave**form
    strong, bright = brush.uniform(rng, (0.45, 0.9), n), brush.uniform(rng, (0.55, 1.0), n)
    hues = (hue[:, 0, 0] + rng.normal(0.0, 0.03, n)) % 1.0
    colour, pale = (
        draw.hsv_to_rgb(hues, strong, bright),
        draw.hsv_to_rgb(hues, 0.25 * strong, bright),
    )
    ends = np.clip((r / np.maximum(reach, 0.1) - 0.55) * 3.0, 0.0, 1.0) * rim
    tone = (
        draw.mix(colour, pale, ends.astype(np.float32)) * (0.6 + 0.4 * np.clip(r, 0, 1))[..., None]
    )
    draw.paint(canvas, brush.alpha((r - reach) * 0.6, scale), tone)
    core = draw.hsv_to_rgb(
        brush.uniform(rng, (0.08, 0.17), n), 0.7, brush.uniform(rng, (0.3, 0.95), n)
    )
    draw.paint(canvas, brush.alpha(r - heart, scale), core)
    return brush.expose(rng, canvas, light=0.2)
