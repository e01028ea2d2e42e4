"""Oxford Flowers102 and Oxford-IIIT Pet: species that differ in parts, proportions and colours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from data_prep.embedded import brush, draw
from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels, stream

# --- flowers ----------------------------------------------------------------------------------

HUES = {
    "red": 0.0,
    "orange": 0.07,
    "yellow": 0.15,
    "blue": 0.6,
    "violet": 0.76,
    "pink": 0.9,
    "white": -1.0,
}
PETALS = (3, 4, 5, 6, 8, 12)
TIPS = ("round", "pointed", "narrow", "notched")


@dataclass(frozen=True)
class Species:
    """Prototypes of the flowers, fields (102,)."""

    hue: Array
    petals: Array
    tip: Labels
    core: Array
    core_hue: Array
    double: Array


def _species() -> tuple[Species, tuple[str, ...]]:
    """Pick 102 of the 168 combinations of colour, number and form of the petals."""
    rng = stream("vtab1k", "flowers102", "prototypes")
    every = list(product(HUES, range(len(PETALS)), range(len(TIPS))))
    kept = [every[i] for i in sorted(rng.choice(len(every), 102, replace=False))]
    names = tuple(f"{hue}, {PETALS[p]} {TIPS[t]} petals" for hue, p, t in kept)
    n = len(kept)
    species = Species(
        hue=np.asarray([HUES[hue] for hue, _, _ in kept], dtype=np.float32),
        petals=np.asarray([PETALS[p] for _, p, _ in kept], dtype=np.float32),
        tip=np.asarray([t for _, _, t in kept], dtype=np.int64),
        core=brush.uniform(rng, (0.14, 0.36), n),
        core_hue=brush.uniform(rng, (0.04, 0.3), n),
        double=(rng.random(n) < 0.35).astype(np.float32),
    )
    return species, names


SPECIES, FLOWER_NAMES = _species()


def _petals(kind: int, theta: Array, r: Array, petals: Array) -> Array:
    """Distance to a ring of petals of a form, in the flower's frame."""
    count = draw.per_image(petals)
    wave = np.abs(np.cos(0.5 * count * theta))
    if kind == 0:
        reach = 0.35 + 0.6 * wave**0.6
    elif kind == 1:
        reach = 0.25 + 0.75 * (1.0 - np.arccos(wave) * 2.0 / np.pi) ** 1.3
    elif kind == 2:
        reach = 0.2 + 0.75 * wave**3.0
    else:
        reach = 0.3 + 0.7 * wave**0.5 - 0.3 * np.maximum(wave - 0.75, 0.0) * 4.0
    return (r - reach) * 0.6


@dataclass(frozen=True)
class Blossoms:
    """One flower an image: its species, its colour, and polar coordinates in its frame."""

    labels: Labels
    colour: Array
    scale: Array
    r: Array
    theta: Array


def _blossoms(rng: Rng, labels: Labels) -> Blossoms:
    """Place, tilt, turn and colour one flower for each label."""
    n = len(labels)
    scale = brush.uniform(rng, (0.72, 0.98), n)
    cx, cy = brush.uniform(rng, (-0.12, 0.12), n), brush.uniform(rng, (-0.12, 0.12), n)
    u, v = draw.to_local(*brush.axes(), cx, cy, brush.uniform(rng, (0, np.pi), n), scale)
    v = v / draw.per_image(brush.uniform(rng, (0.8, 1.0), n))  # seen from aside
    white = SPECIES.hue[labels] < 0
    hue = np.where(white, 0.15, (SPECIES.hue[labels] + rng.normal(0.0, 0.018, n)) % 1.0)
    pale, strong = brush.uniform(rng, (0.0, 0.15), n), brush.uniform(rng, (0.55, 0.95), n)
    colour = draw.hsv_to_rgb(hue, np.where(white, pale, strong), brush.uniform(rng, (0.65, 1.0), n))
    turn = draw.per_image(brush.uniform(rng, (0, 2 * np.pi), n))
    return Blossoms(labels, colour, scale, np.hypot(u, v), np.arctan2(v, u) + turn)


def _paint_whorl(canvas: Array, flower: Blossoms, size: float, second: bool) -> None:
    """Paint a ring of petals; the second one, for double flowers only, lies between the first."""
    petals = SPECIES.petals[flower.labels]
    theta = flower.theta + draw.per_image(second * np.pi / petals)
    r = flower.r / size

    def form(kind: int, rows: npt.NDArray[np.intp]) -> Array:
        return _petals(kind, theta[rows], r[rows], petals[rows])

    cover = brush.alpha(brush.by_kind(SPECIES.tip[flower.labels], form) * size, flower.scale)
    if second:
        cover = cover * draw.per_image(SPECIES.double[flower.labels])
    tone = (0.55 + 0.45 * np.clip(r, 0, 1)) * (1.0 if second else 0.92)
    draw.paint(canvas, cover, draw.as_colour(flower.colour) * tone[..., None])


def flowers102(rng: Rng, labels: Labels, split: str) -> Images:
    """A blossom among leaves; the label is its species."""
    n = len(labels)
    canvas = draw.mix(
        brush.tint(rng, n, (0.2, 0.45), (0.3, 0.8), (0.1, 0.4)),
        brush.tint(rng, n, (0.2, 0.45), (0.2, 0.7), (0.3, 0.7)),
        draw.sharpen(brush.noise(rng, n, 5, 2), 1.5),
    )
    flower = _blossoms(rng, labels)
    _paint_whorl(canvas, flower, 1.0, second=False)
    _paint_whorl(canvas, flower, 0.68, second=True)
    core = SPECIES.core[labels] * brush.uniform(rng, (0.85, 1.15), n)
    heart = draw.hsv_to_rgb(SPECIES.core_hue[labels], 0.8, brush.uniform(rng, (0.4, 0.9), n))
    draw.paint(canvas, brush.alpha(flower.r - draw.per_image(core), flower.scale), heart)
    return brush.expose(rng, canvas, light=0.25)


# --- pets -------------------------------------------------------------------------------------

FURS: dict[str, tuple[float, float, float]] = {
    "black": (0.18, 0.17, 0.17),
    "white": (0.93, 0.91, 0.88),
    "ginger": (0.82, 0.5, 0.2),
    "brown": (0.45, 0.3, 0.18),
    "grey": (0.55, 0.56, 0.6),
    "cream": (0.88, 0.76, 0.56),
}
MARKS = ("plain", "masked", "blazed", "tabby")
CATS, DOGS = 12, 25  # as in the original


def _breeds() -> tuple[list[tuple[str, str, str]], Array, tuple[str, ...]]:
    """Pick 37 breeds: fur, marking and ears, with proportions of their own."""
    rng = stream("vtab1k", "pets", "prototypes")
    cats = list(product(FURS, MARKS, ("pricked",)))
    dogs = list(product(FURS, MARKS, ("floppy", "bat")))
    kept = [cats[i] for i in sorted(rng.choice(len(cats), CATS, replace=False))]
    kept += [dogs[i] for i in sorted(rng.choice(len(dogs), DOGS, replace=False))]
    names = tuple(
        f"{fur} {marks} {'cat' if ears == 'pricked' else ears + '-eared dog'}"
        for fur, marks, ears in kept
    )
    return kept, rng.random((len(kept), 3)).astype(np.float32), names


BREEDS, _PROPORTIONS, PET_NAMES = _breeds()


def _ears(kind: int, u: Array, v: Array) -> Array:
    """Distance to a pair of ears: a cat's, a bat-eared dog's or a floppy-eared dog's."""
    w = brush.fold(u)
    if kind == 0:
        return draw.sdf_polygon(w - 0.55, v + 0.75, 3, 0.55)
    if kind == 1:
        return draw.sdf_ellipse(w - 0.6, v + 0.85, 0.24, 0.5)
    return draw.sdf_ellipse(w - 0.9, v - 0.05, 0.27, 0.7)


def _markings(kind: int, u: Array, v: Array, phase: Array) -> Array:
    """Where the second colour of the fur shows, in [0, 1]."""
    if kind == 1:
        return draw.coverage(draw.sdf_ellipse(u, v + 0.15, 1.1, 0.35), 0.15)
    if kind == 2:
        return draw.coverage(draw.sdf_ellipse(u, v, 0.25, 1.2), 0.15)
    if kind == 3:
        return 0.8 * draw.sharpen(
            draw.grating(u, v + brush.fold(u) * 0.4, 1.6, np.pi / 2, phase), 3.0
        )
    return np.zeros_like(u)


def pets(rng: Rng, labels: Labels, split: str) -> Images:
    """The face of a pet; the label is its breed."""
    n = len(labels)
    x, y = brush.axes()
    furs, marks = list(FURS), list(MARKS)
    fur = np.asarray([FURS[b[0]] for b in BREEDS], dtype=np.float32)[labels]
    # Markings are white on dark fur and dark on light fur.
    second = np.asarray(
        [(0.2, 0.16, 0.13) if furs.index(b[0]) in (1, 5, 4) else (0.9, 0.86, 0.8) for b in BREEDS]
    )
    marking = np.asarray([marks.index(b[1]) for b in BREEDS])[labels]
    ears = np.asarray([("pricked", "bat", "floppy").index(b[2]) for b in BREEDS])[labels]
    canvas = brush.clutter(rng, n)
    scale = brush.uniform(rng, (0.36, 0.68), n)
    turn = rng.normal(0.0, 0.3, n)
    cx, cy = brush.uniform(rng, (-0.3, 0.3), n), brush.uniform(rng, (-0.15, 0.35), n)
    u, v = draw.to_local(x, y, cx, cy, turn, scale)
    look = draw.per_image(brush.uniform(rng, (-0.25, 0.25), n))  # the face looks aside
    shape = _PROPORTIONS[labels]
    wide, long = 0.85 + 0.25 * shape[:, 0], 0.85 + 0.25 * shape[:, 1]
    coat = np.clip(
        fur * brush.uniform(rng, (0.65, 1.25), n)[:, None] + rng.normal(0, 0.05, (n, 3)), 0, 1
    )
    body = draw.sdf_ellipse(u, v - 1.5, 1.0, 1.0)
    draw.paint(canvas, brush.alpha(body, scale), coat * 0.8)
    inner = 0.75 * coat
    head = draw.sdf_ellipse(u, v, wide, long)
    ear = brush.by_kind(ears, lambda k, rows: _ears(k, u[rows], v[rows]))
    behind = brush.alpha(ear, scale)
    draw.paint(canvas, behind * draw.per_image(ears != 2), inner)
    field = brush.by_kind(
        marking,
        lambda k, rows: _markings(
            k, u[rows] - look[rows], v[rows], brush.uniform(rng, (0, 6.3), len(rows))
        ),
    )
    patch = second[labels] * brush.uniform(rng, (0.85, 1.1), n)[:, None]
    draw.paint(canvas, brush.alpha(head, scale), draw.mix(coat, patch, field))
    draw.paint(canvas, behind * draw.per_image(ears == 2), inner)
    _face(canvas, u - look, v, scale, coat, ears == 0, shape[:, 2])
    return brush.expose(rng, canvas, grain=0.04, light=0.25)


def _face(
    canvas: Array,
    u: Array,
    v: Array,
    scale: Array,
    coat: npt.NDArray[np.floating],
    cat: npt.NDArray[np.bool_],
    trait: Array,
) -> None:
    """Paint muzzle, eyes and nose; a dog's muzzle is longer, a cat's eyes are green or yellow."""
    muzzle = draw.sdf_ellipse(u, v - 0.42, 0.34 + 0.1 * trait, np.where(cat, 0.3, 0.42))
    draw.paint(canvas, 0.7 * brush.alpha(muzzle, scale), 0.5 * coat + 0.45)
    w = brush.fold(u) - 0.36
    draw.paint(canvas, brush.alpha(draw.sdf_ellipse(w, v + 0.12, 0.15, 0.17), scale), (0.05,) * 3)
    iris = draw.hsv_to_rgb(0.1 + 0.35 * trait * cat, 0.8, 0.8)
    draw.paint(canvas, 0.8 * brush.alpha(draw.sdf_disc(w, v + 0.12, 0.07), scale), iris)
    nose = draw.sdf_ellipse(u, v - 0.33, 0.16, 0.1)
    draw.paint(canvas, brush.alpha(nose, scale), (0.15, 0.08, 0.08))
