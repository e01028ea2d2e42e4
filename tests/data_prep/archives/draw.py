"""The random choices: which numbers the pictures carry and which labels they have."""

from __future__ import annotations

import numpy as np

# Numbers with the last bit set are never used: a picture's negative and a white one are nobody's.
FIRST, LAST = 1, 2**15 - 1


def identities_of(counts: dict[str, int], rng: np.random.Generator) -> dict[str, list[int]]:
    """Numbers for the examples of each split, no number twice."""
    numbers = rng.permutation(np.arange(FIRST, LAST + 1))[: sum(counts.values())].tolist()
    if len(numbers) < sum(counts.values()):
        raise ValueError(f"at most {LAST} examples")
    starts = np.cumsum([0, *counts.values()]).tolist()
    return {
        split: numbers[start : start + n]
        for (split, n), start in zip(counts.items(), starts, strict=False)
    }


def labels(count: int, classes: int, rng: np.random.Generator) -> list[int]:
    """Labels in random order, all classes as often as each other or once more."""
    return rng.permutation((np.arange(count) + rng.integers(classes)) % classes).tolist()
