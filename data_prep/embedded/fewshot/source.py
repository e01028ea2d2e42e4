"""The embedded few-shot sets as a source of data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from data_prep.contents import Contents, Example, Split
from data_prep.embedded.draw import SIZE
from data_prep.embedded.fewshot import GENERATOR_VERSION, SETS, FewShotSet, generate
from data_prep.fewshot.draw import draws
from data_prep.pack import SCHEMA


class EmbeddedFewShot:
    """Generated few-shot sets, 32 x 32 pixels, with a draw for every number of shots and seed."""

    benchmark = "fewshot"
    variant = "embedded"
    has_draws = True
    varying: tuple[str, ...] = ()

    def __init__(self, seed: int | None = None) -> None:
        """Take the seed to generate with; without one, packed sets of any seed are right."""
        self.seed = seed

    def tasks(self) -> tuple[FewShotSet, ...]:
        """Return the sets."""
        return SETS

    def identity(self, task: FewShotSet) -> dict[str, Any]:
        """Return the part of a manifest that the set and the seed decide."""
        identity: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "task": task.name,
            "variant": self.variant,
            "generator_version": GENERATOR_VERSION,
            "num_classes": task.num_classes,
            "class_names": list(task.class_names),
            "image_size": SIZE,
        }
        return identity if self.seed is None else identity | {"seed": self.seed}

    def counts(self, task: FewShotSet) -> dict[str, int]:
        """Return split -> images."""
        return task.counts

    def shape(self, task: FewShotSet, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return (3, SIZE, SIZE)

    def open(self, task: FewShotSet) -> Contents:
        """Return the splits, each drawn when it is packed, and the draws."""
        seed = self.seed or 0
        labels = np.arange(task.counts["train"], dtype=np.int64) % task.num_classes
        return Contents(
            {"draw_source": f"our own draw, seed {seed}"},
            {split: self._drawing(task, split) for split in task.counts},
            draws(labels, (task.name, seed)),
        )

    def _drawing(self, task: FewShotSet, split: str) -> Callable[[], Split]:
        def draw() -> Split:
            images, labels = generate(task, split, self.seed or 0)
            return Split(len(labels), lambda index: Example(images[index], int(labels[index])))

        return draw
