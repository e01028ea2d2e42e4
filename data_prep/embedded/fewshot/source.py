"""The embedded few-shot sets as a source of data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.contents import Contents
from data_prep.embedded.draw import Images
from data_prep.embedded.fewshot import GENERATOR_VERSION, SETS, GeneratedSet, generate
from data_prep.embedded.source import Generated
from data_prep.fewshot.draw import draws
from data_prep.streams import Labels


class EmbeddedFewShot(Generated):
    """The few-shot sets, with a draw for every number of shots and seed."""

    benchmark = "fewshot"
    generator_version = GENERATOR_VERSION
    has_draws = True

    def tasks(self) -> tuple[GeneratedSet, ...]:
        """Return the sets."""
        return SETS

    def counts(self, task: GeneratedSet) -> dict[str, int]:
        """Return split -> images."""
        return task.counts

    def generate(self, task: GeneratedSet, split: str, seed: int) -> tuple[Images, Labels]:
        """Generate a split."""
        return generate(task, split, seed)

    def open(self, task: GeneratedSet) -> Contents:
        """Return the splits, each drawn when it is packed, and the draws."""
        seed = self.seed or 0
        labels = np.arange(task.counts["train"], dtype=np.int64) % task.num_classes
        return replace(
            super().open(task),
            about={"draw_source": f"our own draw, seed {seed}"},
            draws=draws(labels, (task.name, seed)),
        )
