"""What a generated few-shot set is: classes of one family, told apart by a few parameters.

A class is a point in a table of parameters, drawn once; an image adds what does not matter: where, how large
and how turned the object is, the light, the background, and colour where it does not tell classes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from data_prep.embedded.draw import Array, Images, Rng
from data_prep.streams import Labels, stream

Choices: TypeAlias = Mapping[str, tuple[float, ...]]
Render: TypeAlias = Callable[[Rng, Labels], Images]


@dataclass(frozen=True)
class Prototypes:
    """The classes of a family.

    Attributes:
        values: Each parameter's values, (classes,).
        names: A name for each class: its parameters in words.
    """

    values: Mapping[str, Array]
    names: tuple[str, ...]

    def __getitem__(self, key: tuple[str, Labels]) -> Array:
        """Return a parameter of the classes of these labels, (n,)."""
        name, labels = key
        return self.values[name][labels]


def prototypes(family: str, choices: Choices, count: int) -> Prototypes:
    """Choose classes from all combinations of a family's parameters, far from each other.

    Each new class is the combination that differs from the ones there are in the most parameters; which of
    equals, a stream of the family decides. No two are the same.

    Args:
        family: Name of the family.
        choices: The values that each parameter may have.
        count: How many classes.
    """
    rng = stream("fewshot", family, "prototypes")
    every = np.asarray(list(product(*(range(len(values)) for values in choices.values()))))
    every = every[rng.permutation(len(every))]
    chosen = [0]
    nearest = (every != every[0]).sum(1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, (every != every[chosen[-1]]).sum(1))
    table = every[sorted(chosen)]
    values = {
        name: np.asarray(levels, dtype=np.float32)[table[:, column]]
        for column, (name, levels) in enumerate(choices.items())
    }
    names = tuple(
        ", ".join(
            f"{name} {levels[k]:g}" for (name, levels), k in zip(choices.items(), row, strict=True)
        )
        for row in table.tolist()
    )
    return Prototypes(values, names)


def either(rng: Rng, n: int) -> npt.NDArray[np.float32]:
    """Draw n signs: which way an object faces."""
    return np.where(rng.random(n) < 0.5, -1.0, 1.0).astype(np.float32)
