"""What the embedded clips show and the words for it, and the broader world that their CLIP is pre-trained on.

The first word of a tuple names the meaning; the others are its synonyms. The broader world shows pictures,
in which
nothing moves; it lacks some of the clips' shapes, colours and grounds and has others, and it lacks a
third of the words for those that it shares.
"""

from __future__ import annotations

from dataclasses import dataclass

Words = tuple[str, ...]


@dataclass(frozen=True)
class Motion:
    """What a thing does in a clip.

    Attributes:
        forms: Pairs of third person and participle.
    """

    forms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class World:
    """Everything that scenes are made of and captions are made with.

    Attributes:
        shapes: Shape -> words.
        colours: Colour -> words.
        sizes: Size -> words.
        patterns: Pattern -> words; one without words is never mentioned.
        grounds: What is behind -> phrases.
        relations: Relation in space -> phrases.
        corners: Where in the picture a thing is -> phrases; none where things move.
        motions: What things do; none where nothing moves.
    """

    shapes: dict[str, Words]
    colours: dict[str, Words]
    sizes: dict[str, Words]
    patterns: dict[str, Words]
    grounds: dict[str, Words]
    relations: dict[str, Words]
    corners: dict[str, Words]
    motions: dict[str, Motion]


def _named(*groups: str) -> dict[str, Words]:
    """Read ``"disc circle ball"`` as the meaning ``disc`` and its words."""
    return {words.split()[0]: tuple(words.split()) for words in groups}


def _motion(*pairs: str) -> Motion:
    """Read ``"turns, turning"`` as a pair of forms."""
    return Motion(tuple((pair.split(", ")[0], pair.split(", ")[1]) for pair in pairs))


def _without(words: dict[str, Words], *names: str) -> dict[str, Words]:
    """Return words for fewer meanings, and of those the last synonym only where there are but two."""
    return {
        name: said[: max(2, len(said) - 1)] for name, said in words.items() if name not in names
    }


SHAPES = _named(
    "disc circle ball",
    "square box block",
    "triangle wedge pyramid",
    "star asterisk sparkle",
    "ring hoop loop",
    "cross plus crucifix",
    "heart valentine",
    "moon crescent sickle",
    "drop droplet teardrop",
    "pill capsule sausage",
    "arrow pointer",
    "hexagon honeycomb nut",
)
COLOURS = _named(
    "red crimson scarlet",
    "blue azure cobalt",
    "green emerald",
    "yellow golden lemon",
    "purple violet",
    "orange amber",
    "white ivory",
    "black ebony",
    "pink rosy",
    "brown chestnut",
)
SIZES = _named("small little tiny", "big large huge")
PATTERNS: dict[str, Words] = {
    "plain": (),
    "striped": ("striped", "banded"),
    "hollow": ("hollow", "outlined"),
}
GROUNDS: dict[str, Words] = {
    "meadow": ("on the meadow", "over green grass", "on a lawn"),
    "sky": ("in the sky", "in front of the sky", "against a bright sky"),
    "night": ("at night", "under the stars", "in the dark"),
    "sand": ("on the sand", "on the beach", "over a dune"),
    "wall": ("in front of a wall", "against bricks", "before a brick wall"),
    "water": ("on the water", "over the waves", "at sea"),
}
RELATIONS: dict[str, Words] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "near": ("near", "beside", "next to"),
}
MOTIONS = {
    "right": _motion(
        "moves to the right, moving to the right",
        "slides rightwards, sliding rightwards",
        "crosses from left to right, crossing from left to right",
    ),
    "left": _motion(
        "moves to the left, moving to the left",
        "slides leftwards, sliding leftwards",
        "crosses from right to left, crossing from right to left",
    ),
    "up": _motion("moves up, moving up", "rises, rising", "climbs, climbing"),
    "down": _motion("moves down, moving down", "falls, falling", "sinks, sinking"),
    "bounce": _motion(
        "bounces, bouncing", "hops, hopping", "jumps up and down, jumping up and down"
    ),
    "circle": _motion("circles, circling", "runs around, running around", "orbits, orbiting"),
    "turn": _motion("turns, turning", "rotates, rotating", "spins, spinning"),
    "grow": _motion("grows, growing", "gets bigger, getting bigger", "swells, swelling"),
    "shrink": _motion("shrinks, shrinking", "gets smaller, getting smaller", "dwindles, dwindling"),
    "blink": _motion("blinks, blinking", "flashes, flashing", "comes and goes, coming and going"),
    "wait": _motion("stays still, staying still", "waits, waiting", "rests, resting"),
}

CLIPS = World(SHAPES, COLOURS, SIZES, PATTERNS, GROUNDS, RELATIONS, {}, MOTIONS)
"""What the benchmark's clips are made of."""

BROAD = World(
    _without(SHAPES, "heart", "arrow", "moon")
    | _named("diamond rhombus", "flower blossom", "bar stick", "pentagon", "gear cog"),
    _without(COLOURS, "purple", "brown") | _named("grey ashen", "turquoise cyan", "lime"),
    SIZES,
    PATTERNS,
    _without(GROUNDS, "night", "water")
    | {
        "snow": ("in the snow", "on ice"),
        "checks": ("on a chessboard", "over checks"),
        "dusk": ("at dusk", "in the evening"),
        "paper": ("on paper", "on a blank sheet"),
    },
    RELATIONS,
    {
        "left": ("on the left", "at the left edge"),
        "right": ("on the right", "at the right edge"),
        "top": ("at the top", "high up"),
        "bottom": ("at the bottom", "down below"),
        "middle": ("in the middle", "in the centre"),
    },
    {},
)
"""What CLIP is pre-trained on."""
