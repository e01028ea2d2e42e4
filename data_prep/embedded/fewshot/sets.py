"""A generated few-shot set and its splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.embedded.draw import Images
from data_prep.embedded.fewshot.family import Render
from data_prep.streams import Labels, stream

GENERATOR_VERSION = 1
POOL, VAL, TEST = 64, 8, 25
"""Images a class: to draw from, to choose an epoch on, to test on."""

CHUNK = 250  # part of what defines the bytes: another chunk draws other numbers


@dataclass(frozen=True)
class GeneratedSet:
    """One set.

    Attributes:
        name: The name of the real set that it stands for.
        label: What the label says, in words.
        class_names: One name a class.
        render: Draws one image a label.
    """

    name: str
    label: str
    class_names: tuple[str, ...]
    render: Render

    @property
    def group(self) -> str:
        """What kind of task it is."""
        return "fine-grained"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def counts(self) -> dict[str, int]:
        """Split -> images."""
        each = {"train": POOL, "val": VAL, "test": TEST}
        return {split: n * self.num_classes for split, n in each.items()}


def generate(one: GeneratedSet, split: str, seed: int = 0) -> tuple[Images, Labels]:
    """Generate a split: images (N, 3, 32, 32) and labels (N,), class after class in turn.

    Args:
        one: The set.
        split: ``train``, ``val`` or ``test``.
        seed: The seed of the data set.
    """
    rng = stream("fewshot", GENERATOR_VERSION, seed, one.name, split)
    labels = np.arange(one.counts[split], dtype=np.int64) % one.num_classes
    chunks = [
        one.render(rng, labels[start : start + CHUNK]) for start in range(0, len(labels), CHUNK)
    ]
    return np.concatenate(chunks), labels
