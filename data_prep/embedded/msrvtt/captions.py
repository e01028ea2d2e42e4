"""Captions of clips and pictures: a small grammar that says a part of a scene, each time in other words."""

from __future__ import annotations

from data_prep.embedded.msrvtt.lexicon import World
from data_prep.embedded.msrvtt.scene import Rng, Scene, Thing, corner, pick, relations

A_CLIP = 5
_CHANCE_OF_COLOUR, _CHANCE_OF_SIZE, _CHANCE_OF_PATTERN = 0.8, 0.35, 0.6
_CHANCE_OF_GROUND, _CHANCE_OF_MOTION, _CHANCE_OF_CORNER = 0.5, 0.8, 0.5
_BRIEFLY = 0.8
_VOWELS = "aeiou"


class Speaker:
    """Says things about scenes of a world.

    Args:
        world: Where the words come from.
        rng: Chooses what is said, and how.
    """

    def __init__(self, world: World, rng: Rng) -> None:
        self.world = world
        self.rng = rng

    def caption(self, scene: Scene) -> str:
        """Say one thing about a scene."""
        order = [scene.things[int(k)] for k in self.rng.permutation(len(scene.things))]
        way = self.rng.random()
        if len(order) == 1:
            core = self._does(order[0])
        elif way < 0.45:
            link = pick(self.rng, ("while", "and")) if self.world.motions else "and"
            always = link == "while"
            core = f"{self._does(order[0], always)} {link} {self._does(order[1], always)}"
        elif way < 0.8:
            first = self._does(order[0]) if self.world.motions else self._noun(order[0])
            core = f"{first} {self._where(order[0], order[1])}"
        else:
            start = pick(self.rng, ("there is", "a video of", "one can see"))
            if not self.world.motions:
                start = pick(self.rng, ("there is", "a picture of", "one can see"))
            named = [self._noun(thing) for thing in order]
            core = f"{start} {' , '.join(named[:-1])} and {named[-1]}"
        if self.rng.random() >= _CHANCE_OF_GROUND:
            return core
        ground = pick(self.rng, self.world.grounds[scene.ground])
        return f"{ground} , {core}" if self.rng.random() < 0.25 else f"{core} {ground}"

    def _does(self, thing: Thing, always: bool = False) -> str:
        """Return a thing with, mostly or always, what it does; or where it is if nothing moves."""
        if thing.motion is None:
            if self.rng.random() >= _CHANCE_OF_CORNER:
                return self._noun(thing)
            where = pick(self.rng, self.world.corners[corner(thing)])
            return f"{self._noun(thing)} {pick(self.rng, ('', 'is '))}{where}"
        if not always and self.rng.random() >= _CHANCE_OF_MOTION:
            return self._noun(thing)
        finite, participle = pick(self.rng, self.world.motions[thing.motion].forms)
        said = pick(self.rng, (finite, finite, f"is {participle}", participle))
        return f"{self._noun(thing)} {said}"

    def _where(self, first: Thing, second: Thing) -> str:
        """Return a phrase of place for the first thing."""
        name = relations(first, second)[0]
        return f"{pick(self.rng, self.world.relations[name])} {self._noun(second, scale=_BRIEFLY)}"

    def _noun(self, thing: Thing, *, scale: float = 1.0) -> str:
        """Return a thing with an article and some of what it looks like."""
        rng, world, words = self.rng, self.world, []
        # What grows or shrinks has no size to be named.
        steady = thing.motion not in ("grow", "shrink")
        if steady and rng.random() < scale * _CHANCE_OF_SIZE:
            words.append(pick(rng, world.sizes[thing.size]))
        if world.patterns[thing.pattern] and rng.random() < scale * _CHANCE_OF_PATTERN:
            words.append(pick(rng, world.patterns[thing.pattern]))
        if rng.random() < scale * _CHANCE_OF_COLOUR:
            words.append(pick(rng, world.colours[thing.colour]))
        words.append(pick(rng, world.shapes[thing.shape]))
        one = "an" if words[0][0] in _VOWELS else "a"
        return f"{pick(rng, (one, one, 'the'))} {' '.join(words)}"


def describe(world: World, scene: Scene, rng: Rng, count: int = A_CLIP) -> list[str]:
    """Return captions of a scene, all different where the grammar allows it."""
    speaker = Speaker(world, rng)
    said: list[str] = []
    for _ in range(count):
        text = speaker.caption(scene)
        for _ in range(10):
            if text not in said:
                break
            text = speaker.caption(scene)
        said.append(text)
    return said
