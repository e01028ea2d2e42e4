"""Scenes: a place with things in it, what the things look like, where they are and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from data_prep.embedded.flickr30k.lexicon import World

Rng = np.random.Generator
T = TypeVar("T")

FEWEST, MOST = 3, 6
_CHANCE_OF_INTERACTION = 0.6
_SIZES = (0.3, 0.4, 0.3)
_APART = 0.18
_CHANCE_OF_COLOURS = 0.6


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    Attributes:
        category: A noun of the world.
        colour: Its colour; of a person, that of the garment.
        size: small, medium or big.
        pattern: The look of a thing that is no being; ``plain`` otherwise.
        garment: What a person wears; None for others.
        action: What a being does by itself; None if it does nothing by itself.
        x: Centre from left (0) to right (1).
        y: Centre from far (0) to near (1), drawn from top to bottom.
    """

    category: str
    colour: str
    size: str
    pattern: str
    garment: str | None
    action: str | None
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """What is to be seen.

    Attributes:
        place: A place of the world.
        things: The things.
        interaction: (subject, verb, object) with the positions of two things, or None.
    """

    place: str
    things: tuple[Thing, ...]
    interaction: tuple[int, str, int] | None


def pick(rng: Rng, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def make(world: World, rng: Rng) -> Scene:
    """Make up a scene: one or two beings, and things that are found at the place."""
    place = pick(rng, list(world.places))
    count = int(rng.integers(FEWEST, MOST + 1))
    beings = 1 + int(rng.random() < 0.6)
    things: list[Thing] = []
    for index in range(count):
        if index >= beings:
            kind = world.places[place].things
        else:
            kind = tuple(world.people if rng.random() < 0.65 else world.animals)
        there = {thing.category for thing in things}
        category = pick(rng, [name for name in kind if name not in there])
        things.append(_thing(world, category, things, rng))
    interaction = _interaction(world, things, rng)
    if interaction is not None:
        subject = interaction[0]
        things[subject] = replace(things[subject], action=None)
    return Scene(place, tuple(things), interaction)


def _thing(world: World, category: str, others: list[Thing], rng: Rng) -> Thing:
    """Make up one thing that stands apart from the others."""
    is_person = category in world.people
    is_being = is_person or category in world.animals
    actions = [n for n, verb in world.actions.items() if is_person or verb.animals]
    x, y = _free_place(others, rng)
    return Thing(
        category,
        colour=pick(rng, list(world.colours)),
        size=list(world.sizes)[int(rng.choice(3, p=_SIZES))],
        pattern="plain" if is_being or rng.random() < 0.5 else pick(rng, list(world.patterns)),
        garment=pick(rng, list(world.garments)) if is_person else None,
        action=pick(rng, actions) if is_being else None,
        x=x,
        y=y,
    )


def _free_place(others: list[Thing], rng: Rng) -> tuple[float, float]:
    """Return a place that is not too near to another thing, if a few tries find one."""
    x = y = 0.5
    for _ in range(8):
        x, y = (round(float(value), 3) for value in rng.uniform(0.08, 0.92, 2))
        if all(max(abs(x - other.x), abs(y - other.y)) > _APART for other in others):
            break
    return x, y


def _interaction(world: World, things: list[Thing], rng: Rng) -> tuple[int, str, int] | None:
    """Let one being do something to another thing of the scene, where the world has a verb for it."""
    if rng.random() > _CHANCE_OF_INTERACTION:
        return None
    found = [
        (subject, name, other)
        for subject, thing in enumerate(things)
        for name, verb in world.interactions.items()
        for other, target in enumerate(things)
        if other != subject
        and target.category in verb.objects
        and (thing.category in world.people or (verb.animals and thing.category in world.animals))
    ]
    return pick(rng, found) if found else None


def twin(made: Scene, rng: Rng) -> Scene:
    """Return a scene in which two things have changed colours, or places: the same words describe both."""
    things = list(made.things)
    one, two = (int(number) for number in rng.permutation(len(things))[:2])
    a, b = things[one], things[two]
    if a.colour != b.colour and rng.random() < _CHANCE_OF_COLOURS:
        things[one], things[two] = replace(a, colour=b.colour), replace(b, colour=a.colour)
    else:
        things[one], things[two] = replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)
    return replace(made, things=tuple(things))


def relations(first: Thing, second: Thing) -> tuple[str, ...]:
    """Return every relation in which the first thing stands to the second."""
    found = []
    if abs(first.x - second.x) > 0.25:
        found.append("left" if first.x < second.x else "right")
    if abs(first.y - second.y) > 0.25:
        found.append("behind" if first.y < second.y else "front")
    if max(abs(first.x - second.x), abs(first.y - second.y)) < 0.35:
        found.append("near")
    return tuple(found)
