"""What the two sources of VTAB-1K's real data have in common."""

from __future__ import annotations

from typing import Any

from data_prep.pack import SCHEMA
from data_prep.pictures import resizing
from data_prep.vtab1k import tasks
from data_prep.vtab1k.tasks import Task

SIZE = 224


class RealData:
    """VTAB-1K's tasks at one size of image."""

    benchmark = "vtab1k"
    variant: str
    has_draws = False
    varying: tuple[str, ...] = ()

    def __init__(self, size: int | None = None) -> None:
        """Take the size to pack at; without one, packed tasks of any size are right."""
        self.size = size

    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks."""
        return tasks.TASKS

    def identity(self, task: Task) -> dict[str, Any]:
        """Return the part of a manifest that the task and the size decide."""
        identity: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "task": task.name,
            "variant": self.variant,
            "num_classes": task.num_classes,
        }
        return identity if self.size is None else identity | {"image_size": self.size}

    def counts(self, task: Task) -> dict[str, int]:
        """Return split -> examples."""
        return task.counts

    def shape(self, task: Task, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return (self.channels(task), self.size or SIZE, self.size or SIZE)

    def channels(self, task: Task) -> int:
        """Return how many channels are packed."""
        return 3

    def about(self, task: Task, **more: Any) -> dict[str, Any]:
        """Return what a manifest says of the data besides the identity."""
        size = self.size or SIZE
        return {
            "image_size": size,
            "channels": self.channels(task),
            "resize": resizing(size),
            **more,
        }
