"""The embedded world as a source of data: tasks are drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_prep.contents import Contents, Example, Split
from data_prep.embedded.draw import SIZE
from data_prep.embedded.vtab1k import GENERATOR_VERSION, SPLITS, TASKS, Task, generate
from data_prep.pack import SCHEMA


class Embedded:
    """VTAB-1K's generated tasks, 32 x 32 pixels."""

    benchmark = "vtab1k"
    variant = "embedded"
    has_draws = False
    varying: tuple[str, ...] = ()

    def __init__(self, seed: int | None = None) -> None:
        """Take the seed to generate with; without one, packed tasks of any seed are right."""
        self.seed = seed

    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks."""
        return TASKS

    def identity(self, task: Task) -> dict[str, Any]:
        """Return the part of a manifest that the task and the seed decide."""
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

    def counts(self, task: Task) -> dict[str, int]:
        """Return split -> examples."""
        return SPLITS

    def shape(self, task: Task, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return (3, SIZE, SIZE)

    def open(self, task: Task) -> Contents:
        """Return the splits; each is drawn when it is packed."""
        return Contents({}, {split: self._drawing(task, split) for split in SPLITS})

    def _drawing(self, task: Task, split: str) -> Callable[[], Split]:
        def draw() -> Split:
            images, labels = generate(task, split, self.seed or 0)
            return Split(len(labels), lambda index: Example(images[index], int(labels[index])))

        return draw
