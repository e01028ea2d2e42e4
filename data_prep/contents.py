"""What a source of data gives to be packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

PILLOWS = 75
"""Pillow's quality of JPEG files where none is asked for."""


class Named(Protocol):
    """What all tasks have, generated or real."""

    @property
    def name(self) -> str:
        """Registry name."""

    @property
    def group(self) -> str:
        """What kind of task it is: ``natural``, ``specialized``, ``structured``, or ``fine-grained``."""

    @property
    def label(self) -> str:
        """What the label says."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""


class Example(NamedTuple):
    """One image with its label.

    Attributes:
        pixels: uint8 (C, H, W).
        label: From 0 on.
        kind: Format and mode of the file it was decoded from; None for what was drawn.
    """

    pixels: npt.NDArray[np.uint8]
    label: int
    kind: str | None = None


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        count: How many there are.
        example: Returns the i-th; called from several threads.
        about: What the manifest says of it besides counts and hash.
    """

    count: int
    example: Callable[[int], Example]
    about: Mapping[str, Any] = field(default_factory=dict)


def encoding(kinds: Mapping[str, int]) -> str:
    """Say in which formats files are, and which of them JPEG has probably encoded a second time.

    Args:
        kinds: ``Example.kind`` -> number of files.
    """
    formats: Counter[str] = Counter()
    for kind, count in kinds.items():
        formats[kind.partition(" ")[0]] += count
    text = ", ".join(f"{count:,} {name} files" for name, count in sorted(formats.items()))
    again = sum(count for kind, count in kinds.items() if kind.endswith(f", quality {PILLOWS}"))
    if again:
        text += f"; {again:,} have Pillow's default quality, as images that were encoded again with loss"
    return text


@dataclass(frozen=True)
class Contents:
    """A task, opened.

    Attributes:
        about: What the manifest says of it, besides what the task decides.
        splits: Split -> opens it.
        draws: Which of the training images are trained on, by the name of the draw, (n,) each; none where
            all are.
        fingerprint: A hash of what the splits have where lists or archives decide it; what a killed run
            packed is kept only if it is the same.
        jpeg: Says for the manifest how the files were encoded, by their kinds and how many there are of each;
            not asked where nothing was decoded.
    """

    about: Mapping[str, Any]
    splits: Mapping[str, Callable[[], Split]]
    draws: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    fingerprint: str = ""
    jpeg: Callable[[Mapping[str, int]], str] = encoding


class Source(Protocol):
    """Where the data of a benchmark come from.

    Attributes:
        benchmark: The benchmark.
        variant: Its name; also the name of the variant in every record.
        has_draws: Whether each task has draws from its training images.
        varying: Splits of which the data decide how many examples there are.
    """

    benchmark: str
    variant: str
    has_draws: bool
    varying: tuple[str, ...]

    def tasks(self) -> tuple[Named, ...]:
        """Return the tasks that it has."""

    def identity(self, task: Any) -> dict[str, Any]:
        """Return the part of a manifest that task and options decide, without opening anything."""

    def counts(self, task: Any) -> dict[str, int]:
        """Return split -> examples; of a varying split the most that are expected."""

    def shape(self, task: Any, split: str) -> tuple[int, int, int]:
        """Return channels, height and width of what is packed."""

    def open(self, task: Any) -> Contents:
        """Open a task.

        Raises:
            DataError: Its data are not there, or not as they should be.
        """
