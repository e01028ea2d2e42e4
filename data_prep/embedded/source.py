"""The embedded world as a source of data: tasks are drawn from a seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from data_prep.contents import Contents, Example, Split
from data_prep.embedded.draw import SIZE, Images
from data_prep.embedded.vtab1k import GENERATOR_VERSION, SPLITS, TASKS, Task, generate
from data_prep.pack import SCHEMA
from data_prep.streams import Labels


class Generated:
    """Generated tasks of a benchmark, 32 x 32 pixels."""

    benchmark: str
    generator_version: int
    variant = "embedded"
    has_draws = False
    varying: tuple[str, ...] = ()

    def __init__(self, seed: int | None = None) -> None:
        """Take the seed to generate with; without one, packed tasks of any seed are right."""
        self.seed = seed

    @abstractmethod
    def counts(self, task: Any) -> dict[str, int]:
        """Return split -> examples."""

    @abstractmethod
    def generate(self, task: Any, split: str, seed: int) -> tuple[Images, Labels]:
        """Generate a split."""

    def identity(self, task: Any) -> dict[str, Any]:
        """Return the part of a manifest that the task and the seed decide."""
        identity: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "task": task.name,
            "variant": self.variant,
            "generator_version": self.generator_version,
            "num_classes": task.num_classes,
            "class_names": list(task.class_names),
            "image_size": SIZE,
        }
        return identity if self.seed is None else identity | {"seed": self.seed}

    def shape(self, task: Any, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return (3, SIZE, SIZE)

    def open(self, task: Any) -> Contents:
        """Return the splits; each is drawn when it is packed."""
        return Contents({}, {split: self._drawing(task, split) for split in self.counts(task)})

    def _drawing(self, task: Any, split: str) -> Callable[[], Split]:
        def draw() -> Split:
            images, labels = self.generate(task, split, self.seed or 0)
            return Split(len(labels), lambda index: Example(images[index], int(labels[index])))

        return draw


class Embedded(Generated):
    """The tasks of VTAB-1K."""

    benchmark = "vtab1k"
    generator_version = GENERATOR_VERSION

    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks."""
        return TASKS

    def counts(self, task: Task) -> dict[str, int]:
        """Return split -> examples."""
        return SPLITS

    def generate(self, task: Task, split: str, seed: int) -> tuple[Images, Labels]:
        """Generate a split."""
        return generate(task, split, seed)
