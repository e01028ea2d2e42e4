"""MSR-VTT in miniature: generated clips of moving, turning and growing shapes, five captions each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.embedded.msrvtt import captions, scene
from data_prep.embedded.msrvtt.lexicon import CLIPS
from data_prep.embedded.msrvtt.scene import Scene
from data_prep.streams import stream

__all__ = ["GENERATOR_VERSION", "SPLITS", "Clip", "generate"]

GENERATOR_VERSION = 1
SPLITS = {"train": 1000, "test": 200, "held_out": 200}
"""``held_out`` is never packed: what is chosen about the embedded world is chosen by it."""
TWINS = ("colour", "motion", "shape")
FAMILY = 1 + len(TWINS)
"""Clips that follow each other and show the same things, each twin with something exchanged."""


@dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        scene: What is to be seen.
        captions: Five.
    """

    scene: Scene
    captions: tuple[str, ...]


def generate(split: str, seed: int = 0, count: int | None = None) -> Iterator[Clip]:
    """Generate the clips of a split, or the first ones; a family depends on seed, split and its number.

    Args:
        split: A key of ``SPLITS``.
        seed: Of the data.
        count: Clips; default: all of the split.
    """
    first: Scene | None = None
    for index in range(SPLITS[split] if count is None else count):
        family, member = divmod(index, FAMILY)
        if not member or first is None:
            rng = stream("msrvtt", seed, split, family)
            made = first = scene.make_clip(CLIPS, rng)
        else:
            made = scene.twin(first, rng, what=TWINS[member - 1])
        yield Clip(made, tuple(captions.describe(CLIPS, made, rng)))
