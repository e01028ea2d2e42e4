"""Scenes: a ground, and a few things on it that have looks and, in clips, do something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np

from data_prep.embedded.msrvtt.lexicon import World

Rng: TypeAlias = np.random.Generator
Choice = TypeVar("Choice")

ROUND = {"disc", "ring"}
"""Shapes of which one cannot see whether they turn."""
ACROSS, UPRIGHT = {"left", "right"}, {"up", "down"}
_SHORTEST, _LONGEST, _LONG = 3.0, 9.0, 15.0
_SHARE_OF_LONG = 0.06
RATES = (4, 5, 6)
_CLEAR = 0.3


@dataclass(frozen=True)
class Thing:
    """Something in a scene.

    Attributes:
        shape: As all of these, a name of the world.
        colour: The same.
        size: The same.
        pattern: The same.
        x: Where it is, from -1 (left) to 1; in clips, about which place it moves.
        y: The same, downwards.
        motion: What it does; None where nothing moves.
        angle: How it is turned, in radians.
    """

    shape: str
    colour: str
    size: str
    pattern: str
    x: float
    y: float
    motion: str | None = None
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What is to be seen.

    Attributes:
        ground: What is behind.
        things: One to three things, no two with the same shape and colour.
        seconds: How long it lasts; 0 for a picture.
        rate: Frames a second.
        texture: The seed of the ground's texture.
    """

    ground: str
    things: tuple[Thing, ...]
    seconds: float
    rate: int
    texture: int


def pick(rng: Rng, choices: Sequence[Choice]) -> Choice:
    """Choose one."""
    return choices[int(rng.integers(len(choices)))]


def make_clip(world: World, rng: Rng) -> Scene:
    """Make a scene in which two or three things move."""
    count = 2 if rng.random() < 0.75 else 3
    things = _things(world, rng, count)
    motions = [pick(rng, list(world.motions)) for _ in things]
    while len(set(motions)) == 1:
        motions = [pick(rng, list(world.motions)) for _ in things]
    moving = [replace(t, motion=m) for t, m in zip(things, motions, strict=True)]
    if rng.random() < _SHARE_OF_LONG:
        seconds = rng.uniform(_LONGEST, _LONG)
    else:
        seconds = rng.uniform(_SHORTEST, _LONGEST)
    return Scene(
        pick(rng, list(world.grounds)),
        _placed(moving, rng),
        round(seconds, 1),
        pick(rng, RATES),
        int(rng.integers(1 << 31)),
    )


def make_picture(world: World, rng: Rng) -> Scene:
    """Make a scene in which nothing moves."""
    count = int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2]))
    things: list[Thing] = []
    for thing in _things(world, rng, count):
        for _ in range(20):
            x, y = rng.uniform(-0.7, 0.7, size=2)
            if all(np.hypot(x - other.x, y - other.y) > 0.6 for other in things):
                break
        angle = float(rng.normal(0.0, 0.25))
        things.append(replace(thing, x=float(x), y=float(y), angle=angle))
    ground = pick(rng, list(world.grounds))
    return Scene(ground, tuple(things), 0.0, 1, int(rng.integers(1 << 31)))


def _things(world: World, rng: Rng, count: int) -> list[Thing]:
    """Make things of different shapes and colours."""
    shapes = rng.choice(list(world.shapes), size=count, replace=False)
    colours = rng.choice(list(world.colours), size=count, replace=False)
    patterns = list(world.patterns)
    return [
        Thing(
            str(shape),
            str(colour),
            pick(rng, list(world.sizes)),
            str(rng.choice(patterns, p=[0.5, 0.25, 0.25])),
            0.0,
            0.0,
        )
        for shape, colour in zip(shapes, colours, strict=True)
    ]


def _placed(things: list[Thing], rng: Rng) -> tuple[Thing, ...]:
    """Give things places in which they are not on top of each other; what cannot be seen to turn hops."""
    motions = {thing.motion for thing in things}
    across = bool(motions & ACROSS) or (not motions & UPRIGHT and rng.random() < 0.5)
    spread = np.linspace(-0.5, 0.5, len(things)) if len(things) < 3 else np.asarray([-0.6, 0, 0.6])
    lanes = rng.permutation(spread) + rng.uniform(-0.06, 0.06, len(things))
    aside = rng.uniform(-0.3, 0.3, len(things))
    placed = []
    for thing, lane, other in zip(things, lanes.tolist(), aside.tolist(), strict=True):
        x, y = (other, lane) if across else (lane, other)
        motion = thing.motion
        if motion == "turn" and thing.shape in ROUND and thing.pattern != "striped":
            motion = "bounce"
        placed.append(replace(thing, x=round(x, 3), y=round(y, 3), motion=motion))
    return tuple(placed)


def twin(scene: Scene, rng: Rng, *, what: str) -> Scene:
    """Return the same scene with a look or the motion of two things exchanged; texture and length are new.

    Args:
        scene: At least two things.
        rng: Chooses the two.
        what: ``colour``, ``motion`` or ``shape``.
    """
    things = list(scene.things)
    first, second = (int(k) for k in rng.permutation(len(things))[:2])
    one, two = things[first], things[second]
    things[first] = replace(one, **{what: getattr(two, what)})
    things[second] = replace(two, **{what: getattr(one, what)})
    if scene.seconds:
        changed = _placed(things, rng)
        seconds = round(rng.uniform(_SHORTEST, _LONGEST), 1)
    else:
        changed, seconds = tuple(things), 0.0
    return replace(scene, things=changed, seconds=seconds, texture=int(rng.integers(1 << 31)))


def relations(first: Thing, second: Thing) -> list[str]:
    """Return how the first thing lies to the second, the clearest first; ``near`` if none is."""
    across, down = first.x - second.x, first.y - second.y
    found = []
    if abs(across) > _CLEAR and first.motion not in ACROSS and second.motion not in ACROSS:
        found.append((abs(across), "right" if across > 0 else "left"))
    if abs(down) > _CLEAR and first.motion not in UPRIGHT and second.motion not in UPRIGHT:
        found.append((abs(down), "below" if down > 0 else "above"))
    return [name for _, name in sorted(found, reverse=True)] or ["near"]


def corner(thing: Thing) -> str:
    """Return where in the picture a thing is."""
    if max(abs(thing.x), abs(thing.y)) < _CLEAR:
        return "middle"
    if abs(thing.x) > abs(thing.y):
        return "right" if thing.x > 0 else "left"
    return "bottom" if thing.y > 0 else "top"
