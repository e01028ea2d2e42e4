"""Aircraft from below: they differ in wings, tail and engines."""

from __future__ import annotations

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Images, Rng
from data_prep.embedded.fewshot.family import prototypes
from data_prep.streams import Labels

CLASSES = prototypes(
    "aircraft",
    {
        "sweep": (-0.1, 0.3, 0.7),  # how far the wings' tips lie behind their roots
        "span": (0.5, 0.95),
        "chord": (0.07, 0.17),
        "wing": (-0.35, 0.15),  # where along the fuselage
        "fuselage": (0.08, 0.16),
        "tail": (0.15, 0.5),
        "engines": (0.0, 1.0, 2.0),  # on each side
    },
    20,
)


def render(rng: Rng, labels: Labels) -> Images:
    """An aircraft in the sky; the label is its type."""
    n = len(labels)
    x, y = brush.axes()
    sky = brush.tint(rng, n, (0.5, 0.68), (0.2, 0.6), (0.25, 0.6))
    canvas = draw.mix(sky, 0.8 * sky + 0.15, brush.noise(rng, n))
    scale = brush.uniform(rng, (0.85, 1.0), n)
    u, v = draw.to_local(
        x, y, brush.uniform(rng, (-0.06, 0.06), n), brush.uniform(rng, (-0.06, 0.06), n),
        rng.normal(0.0, 0.25, n), scale,
    )  # fmt: skip
    sweep, span, chord, wing, width, tail, engines = (
        CLASSES[name, labels] for name in CLASSES.values
    )
    w = brush.fold(u)  # the right half stands for both
    shape = draw.sdf_capsule(w, v, 0.0, -0.85, 0.0, 0.85, width)
    shape = np.minimum(shape, draw.sdf_capsule(w, v, 0.0, wing, span, wing + sweep, chord))
    shape = np.minimum(shape, draw.sdf_capsule(w, v, 0.0, 0.75, tail, 0.75 + 0.4 * sweep, 0.06))
    for index in (1, 2):
        at = span * index / 3.0
        ahead = wing + sweep * index / 3.0 - chord
        engine = draw.sdf_capsule(w, v, at, ahead - 0.1, at, ahead + 0.02, 0.055)
        shape = np.minimum(shape, np.where(draw.per_image(engines) >= index, engine, 9.0))
    skin = brush.apart(canvas, brush.tint(rng, n, sat=(0.0, 0.2), val=(0.75, 1.0)), 0.3)
    tone = draw.mix(skin * 0.85, skin, brush.noise(rng, n, 3, 2))
    draw.paint(canvas, brush.alpha(shape, scale), tone)
    return brush.expose(rng, canvas, grain=0.03, light=0.15)
