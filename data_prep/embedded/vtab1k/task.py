"""What a generated task is, and how its splits are drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from data_prep.embedded.draw import Images, Rng
from data_prep.streams import Labels, stream

Render: TypeAlias = Callable[[Rng, Labels, str], Images]

GENERATOR_VERSION = 1
SPLITS: dict[str, int] = {"train800": 800, "val200": 200, "test": 1000}
CHUNK = 250  # part of what defines the bytes: another chunk draws other numbers


@dataclass(frozen=True)
class Task:
    """One image classification task.

    Args:
        name: registry name, that of the VTAB-1K task it stands for.
        group: ``natural``, ``specialized`` or ``structured``.
        label: what the label says, in words.
        class_names: one name a class, in the order of the labels.
        render: draws one image a label; its last argument is the split, for finite sources.
        weights: share of each class where the real task is unbalanced; balanced otherwise.
    """

    name: str
    group: str
    label: str
    class_names: tuple[str, ...]
    render: Render
    weights: tuple[float, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def draw_labels(task: Task, rng: Rng, n: int) -> Labels:
    """Draw n labels: as even as n allows, or by the weights of the task."""
    k = task.num_classes
    if task.weights is not None:
        share = np.asarray(task.weights, dtype=np.float64)
        return rng.choice(k, size=n, p=share / share.sum()).astype(np.int64)
    classes = np.concatenate([rng.permutation(k) for _ in range(-(-n // k))])[:n]
    return rng.permutation(classes).astype(np.int64)


def generate(task: Task, split: str, seed: int = 0, n: int | None = None) -> tuple[Images, Labels]:
    """Generate a split: images (N, 3, 32, 32) and labels (N,).

    Args:
        task: the task.
        split: a name of ``SPLITS``.
        seed: the seed of the data set.
        n: number of images; the size of the split if not given.
    """
    rng = stream("vtab1k", GENERATOR_VERSION, seed, task.name, split)
    labels = draw_labels(task, rng, SPLITS[split] if n is None else n)
    chunks = [
        task.render(rng, labels[start : start + CHUNK], split)
        for start in range(0, len(labels), CHUNK)
    ]
    return np.concatenate(chunks), labels
