"""A generated few-shot set: its splits, and the draws of k images a class from its training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.embedded.draw import Images
from data_prep.embedded.fewshot.family import Render
from data_prep.embedded.vtab1k.task import Labels, stream

GENERATOR_VERSION = 1
SHOTS = (1, 2, 4, 8, 16)
DRAW_SEEDS = (0, 1, 2)
POOL, VAL, TEST = 64, 8, 25
"""Images a class: to draw from, to choose an epoch on, to test on."""

CHUNK = 250  # part of what defines the bytes: another chunk draws other numbers


@dataclass(frozen=True)
class FewShotSet:
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


def generate(one: FewShotSet, split: str, seed: int = 0) -> tuple[Images, Labels]:
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


def draws(labels: Labels, key: tuple[object, ...]) -> dict[str, Labels]:
    """Draw k images a class for every number of shots and every seed, each draw for itself.

    Args:
        labels: Labels of the training images.
        key: What the draw depends on besides shots and seed.

    Returns:
        ``{k}shot_seed{s}`` -> indices into the training images, class by class.

    Raises:
        ValueError: A class has fewer images than the most shots.
    """
    members = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    if min(map(len, members)) < SHOTS[-1]:
        short = min(range(len(members)), key=lambda k: len(members[k]))
        raise ValueError(f"class {short} has {len(members[short])} images, {SHOTS[-1]} are drawn")
    found = {}
    for shots in SHOTS:
        for seed in DRAW_SEEDS:
            rng = stream("fewshot", "draw", *key, shots, seed)
            chosen = [np.sort(rng.choice(of, shots, replace=False)) for of in members]
            found[f"{shots}shot_seed{seed}"] = np.concatenate(chosen).astype(np.int64)
    return found
