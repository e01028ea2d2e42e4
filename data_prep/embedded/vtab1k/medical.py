"""Patch Camelyon and Diabetic Retinopathy: stained cells, and the back of the eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels

# --- Patch Camelyon ---------------------------------------------------------------------------

CENTRE = 0.36  # half-side of the region that the label speaks of
CELLS = 22


@dataclass(frozen=True)
class Tissue:
    """Nuclei of every image, fields (N, CELLS)."""

    x: Array
    y: Array
    tumour: Array


def tissue(rng: Rng, labels: Labels) -> Tissue:
    """Scatter nuclei; the centre has tumour cells where the label is 1, the rim may in any case."""
    n = len(labels)
    x, y = (rng.uniform(-1, 1, (n, CELLS)).astype(np.float32) for _ in range(2))
    x[:, :5] *= CENTRE  # some cells always lie in the centre
    y[:, :5] *= CENTRE
    central = np.maximum(np.abs(x), np.abs(y)) < CENTRE + 0.12
    around = (rng.random((n, CELLS)) < rng.uniform(0.0, 0.6, (n, 1))) & ~central
    inside = central & (rng.random((n, CELLS)) < rng.uniform(0.5, 1.0, (n, 1)))
    inside[:, 0] = True
    tumour = around | (inside & (labels[:, None] == 1))
    return Tissue(x, y, tumour.astype(np.float32))


def patch_camelyon(rng: Rng, labels: Labels, split: str) -> Images:
    """Stained tissue; the label is whether the central region holds tumour cells."""
    n = len(labels)
    gx, gy = brush.axes()
    cells = tissue(rng, labels)
    canvas = draw.mix(
        brush.tint(rng, n, (0.82, 0.95), (0.1, 0.4), (0.8, 0.95)),
        brush.tint(rng, n, (0.8, 0.93), (0.3, 0.55), (0.6, 0.85)),
        brush.noise(rng, n, 4),
    )
    stain = brush.tint(rng, n, (0.7, 0.8), (0.5, 0.8), (0.3, 0.55))
    for k in range(CELLS):
        bad = cells.tumour[:, k]
        # Tumour nuclei are large, pale and misshapen with a dark spot; the others dark and round.
        radius = np.where(
            bad, brush.uniform(rng, (0.14, 0.22), n), brush.uniform(rng, (0.08, 0.16), n)
        )
        flat = np.where(bad, brush.uniform(rng, (0.5, 0.95), n), brush.uniform(rng, (0.75, 1.0), n))
        u, v = draw.to_local(
            gx, gy, cells.x[:, k], cells.y[:, k], brush.uniform(rng, (0, 3.2), n), radius
        )
        dent = draw.per_image(0.3 * bad)
        lobes = (3.0 * u * u - v * v) * v / (1e-6 + u * u + v * v) ** 1.5  # three of them
        wobble = (1.0 + dent * lobes).astype(np.float32)
        sdf = draw.sdf_ellipse(u * wobble, v * wobble, 1.0, flat)
        depth = np.where(
            bad, brush.uniform(rng, (0.35, 0.6), n), brush.uniform(rng, (0.6, 0.95), n)
        )
        shown = rng.random(n) < np.where(bad, 1.0, 0.9)
        draw.paint(canvas, brush.alpha(sdf, radius) * draw.per_image(depth * shown), stain)
        nucleolus = brush.alpha(draw.sdf_disc(u - 0.2, v, 0.35), radius)
        draw.paint(canvas, nucleolus * draw.per_image(0.8 * bad), (0.2, 0.05, 0.3))
    return brush.expose(rng, canvas, grain=0.03, light=0.25)


# --- Diabetic Retinopathy ---------------------------------------------------------------------

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
# Bounds (inclusive) of the numbers of small red dots, of yellow exudates and of large haemorrhages.
LESIONS = (
    ((0, 0), (0, 0), (0, 0)),
    ((2, 4), (0, 0), (0, 0)),
    ((5, 8), (2, 4), (0, 0)),
    ((8, 12), (3, 6), (2, 3)),
    ((6, 12), (2, 6), (4, 6)),
)
# The real set is unbalanced (about 74 % grade 0); this one is so to a lesser degree.
GRADE_WEIGHTS = (0.4, 0.12, 0.22, 0.13, 0.13)
_LOOKS = (
    ((0.05, 0.08), (0.3, 0.03, 0.03), 0.85),
    ((0.06, 0.1), (0.98, 0.92, 0.55), 0.85),
    ((0.12, 0.2), (0.35, 0.02, 0.03), 0.85),
)


def lesion_counts(rng: Rng, labels: Labels) -> Labels:
    """Draw the numbers of lesions of each kind (N, 3) that go with the grades."""
    bounds = np.asarray(LESIONS)[labels]
    return rng.integers(bounds[..., 0], bounds[..., 1] + 1)


def _eye(rng: Rng, n: int) -> Array:
    """A fundus: orange disc, optic disc, macula, vessels; dark around."""
    x, y = brush.axes()
    canvas = draw.background(n, (0.03, 0.02, 0.02), draw.SIZE)
    side = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    base = brush.tint(rng, n, (0.0, 0.09), (0.55, 0.85), (0.5, 0.9))
    retina = draw.mix(base, np.clip(base * 1.25, 0, 1), brush.noise(rng, n, 3))
    size = brush.uniform(rng, (0.9, 1.1), n)
    ox, oy = 0.5 * side + rng.normal(0, 0.04, n), rng.normal(0, 0.08, n)
    disc = brush.alpha(np.hypot(x - draw.per_image(ox), y - draw.per_image(oy)) - 0.16, 1.0, 0.12)
    draw.paint(retina, disc, (0.98, 0.85, 0.55))
    macula = brush.alpha(np.hypot(x + draw.per_image(0.25 * side), y) - 0.1, 1.0, 0.3)
    draw.paint(retina, 0.5 * macula, base * 0.5)
    for up in (-1.0, 1.0):
        for reach in (0.35, 0.75):
            curve = draw.per_image(brush.uniform(rng, (0.8, 1.2), n) * reach)
            away = np.abs(x - draw.per_image(ox))
            path = up * curve * np.sqrt(away + 1e-3) + 0.04 * np.sin(
                9 * x + 6.3 * draw.per_image(rng.random(n))
            )
            vessel = brush.alpha(np.abs(y - draw.per_image(oy) - path) - 0.015)
            draw.paint(retina, 0.5 * vessel, base * 0.45)
    draw.paint(canvas, brush.alpha(np.hypot(x, y) - draw.per_image(size)), retina)
    return canvas


def retinopathy(rng: Rng, labels: Labels, split: str) -> Images:
    """The back of an eye; the label is the grade, which the number and kind of lesions tell."""
    n = len(labels)
    x, y = brush.axes()
    canvas = _eye(rng, n)
    counts = lesion_counts(rng, labels)
    for kind, (sizes, colour, depth) in enumerate(_LOOKS):
        for k in range(int(counts[:, kind].max(initial=0))):
            rows = np.flatnonzero(counts[:, kind] > k)
            m = len(rows)
            r, turn = 0.8 * np.sqrt(rng.random(m)), brush.uniform(rng, (0, 6.3), m)
            radius = brush.uniform(rng, sizes, m)
            u, v = draw.to_local(x, y, r * np.cos(turn), r * np.sin(turn), turn, 1.0)
            spot = draw.sdf_ellipse(u, v, radius, radius * brush.uniform(rng, (0.6, 1.0), m))
            view = canvas[rows]
            draw.paint(view, depth * brush.alpha(spot), colour)
            canvas[rows] = view
    return brush.expose(rng, canvas, grain=0.02, light=0.2)
