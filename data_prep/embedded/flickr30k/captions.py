"""Captions: a small grammar that says a part of a scene, each time in other words."""

from __future__ import annotations

from data_prep.embedded.flickr30k.lexicon import Verb, World
from data_prep.embedded.flickr30k.scene import Rng, Scene, Thing, pick, relations

A_SCENE = 5
_CHANCE_OF_COLOUR, _CHANCE_OF_SIZE, _CHANCE_OF_PATTERN = 0.65, 0.35, 0.5
_CHANCE_OF_PLACE, _CHANCE_OF_GARMENT = 0.45, 0.7
_VOWELS = "aeiou"


class Speaker:
    """Says things about scenes of a world.

    Args:
        world: Where the words come from.
        rng: Chooses what is said.
        tongue: Chooses the words for it; the same as ``rng`` if not given. Two speakers with the same choice
            of what is said paraphrase each other.
    """

    def __init__(self, world: World, rng: Rng, tongue: Rng | None = None) -> None:
        self.world = world
        self.rng = rng
        self.tongue = rng if tongue is None else tongue

    def caption(self, scene: Scene) -> str:
        """Say one thing about a scene; words carry the marks of the vocabulary's cuts."""
        ways = [self._deed, self._relation, self._list, self._two]
        weights = (0.4, 0.27, 0.13, 0.2) if scene.interaction else (0.2, 0.4, 0.15, 0.25)
        way = ways[int(self.rng.choice(len(ways), p=weights))]
        core = way(scene)
        if self.rng.random() >= _CHANCE_OF_PLACE:
            return f"{core} ."
        place = pick(self.tongue, self.world.places[scene.place].phrases)
        if self.rng.random() < 0.2:
            return f"{place} , {core} ."
        return f"{core} {place} ."

    def _deed(self, scene: Scene) -> str:
        """Say who does what."""
        if scene.interaction is None:
            return self._does(self._being(scene))
        subject, name, target = scene.interaction
        verb = self.world.interactions[name]
        done = self._verb(verb)
        if self.rng.random() < 0.15:
            # The passive turns the order of the two around.
            _, participle = pick(self.tongue, verb.forms)
            return (
                f"{self._noun(scene.things[target])} with {self._noun(scene.things[subject])} "
                f"{participle} it"
            )
        return f"{self._noun(scene.things[subject])} {done} {self._noun(scene.things[target])}"

    def _relation(self, scene: Scene) -> str:
        """Say where one thing is, seen from another."""
        first, second = self._two_of(scene)
        phrase = self._where(first, second)
        if first.action is not None and self.rng.random() < 0.6:
            return f"{self._does(first)} {phrase}"
        be = pick(self.tongue, ("is", "", "stands" if first.action == "stand" else "is"))
        return f"{self._noun(first)} {be} {phrase}"

    def _list(self, scene: Scene) -> str:
        """Name what is there."""
        order = [scene.things[int(i)] for i in self.rng.permutation(len(scene.things))]
        named = [self._noun(thing) for thing in order[: int(self.rng.integers(2, 4))]]
        start = pick(self.tongue, ("there is", "a photo of", "a view of", ""))
        return f"{start} {' , '.join(named[:-1])} and {named[-1]}"

    def _two(self, scene: Scene) -> str:
        """Say what a being does, and what else is there."""
        being = self._being(scene)
        others = [thing for thing in scene.things if thing is not being]
        other = others.pop(int(self.rng.integers(len(others))))
        link = pick(self.rng, ("while", "and", "with"))
        if other.action is not None and link != "with":
            return f"{self._does(being)} {link} {self._does(other)}"
        if others and self.rng.random() < 0.4:
            where = self._where(other, pick(self.rng, others))
            return f"{self._does(being)} with {self._noun(other)} {where}"
        return f"{self._noun(other)} and {self._does(being)}"

    def _being(self, scene: Scene) -> Thing:
        """Return a thing that does something, else the first."""
        doing = [thing for thing in scene.things if thing.action is not None]
        return pick(self.rng, doing) if doing else scene.things[0]

    def _two_of(self, scene: Scene) -> tuple[Thing, Thing]:
        """Return two different things."""
        first, second = self.rng.permutation(len(scene.things))[:2]
        return scene.things[int(first)], scene.things[int(second)]

    def _where(self, first: Thing, second: Thing) -> str:
        """Return a phrase of place for the first thing."""
        found = relations(first, second)
        name = pick(self.rng, found) if found else "near"
        return f"{pick(self.tongue, self.world.relations[name])} {self._noun(second, brief=True)}"

    def _does(self, thing: Thing) -> str:
        """Return a being with what it does."""
        if thing.action is None:
            return self._noun(thing)
        return f"{self._noun(thing)} {self._verb(self.world.actions[thing.action])}"

    def _verb(self, verb: Verb) -> str:
        finite, participle = pick(self.tongue, verb.forms)
        return pick(self.tongue, (finite, f"is {participle}", participle))

    def _noun(self, thing: Thing, *, brief: bool = False) -> str:
        """Return a thing with an article and some of what it looks like."""
        world, rng, tongue = self.world, self.rng, self.tongue
        scale = 0.8 if brief else 1.0
        before, after = [], ""
        if world.sizes[thing.size] and rng.random() < scale * _CHANCE_OF_SIZE:
            before.append(pick(tongue, world.sizes[thing.size]))
        if world.patterns[thing.pattern] and rng.random() < scale * _CHANCE_OF_PATTERN:
            before.append(pick(tongue, world.patterns[thing.pattern]))
        if thing.garment is not None:
            if rng.random() < scale * _CHANCE_OF_GARMENT:
                colour = pick(tongue, world.colours[thing.colour])
                worn = pick(tongue, world.garments[thing.garment])
                article = _article(colour)
                after = f" {pick(tongue, ('in', 'wear|ing', 'with'))} {article} {colour} {worn}"
        elif rng.random() < scale * _CHANCE_OF_COLOUR:
            before.append(pick(tongue, world.colours[thing.colour]))
        words = [*before, pick(tongue, world.nouns[thing.category])]
        article = pick(tongue, (*[_article(words[0])] * 3, *["the"] * 2, "one"))
        return f"{article} {' '.join(words)}{after}"


def _article(word: str) -> str:
    return "an" if word[0] in _VOWELS else "a"


def plain(marked: str) -> str:
    """Return a caption as it is read: without the marks, one space between words."""
    return " ".join(marked.replace("|", "").split())


def describe(world: World, scene: Scene, rng: Rng) -> list[str]:
    """Return the captions of a scene, all different where the grammar allows it."""
    speaker = Speaker(world, rng)
    said: list[str] = []
    for _ in range(A_SCENE):
        text = plain(speaker.caption(scene))
        for _ in range(10):
            if text not in said:
                break
            text = plain(speaker.caption(scene))
        said.append(text)
    return said
