"""Cells, the unit of work, and the selectors that choose them.

A cell is ``benchmark/backbone/task/method/seed``. A selector is that path with globs; parts that are
left out at its end match everything. A cell's path is also the path of its record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

from benchmarks.harness.errors import UsageError, shortened

PARTS = ("benchmark", "backbone", "task", "method", "seed")
SEED_DIGITS = 18
SEED = re.compile(rf"0|[1-9][0-9]{{0,{SEED_DIGITS - 1}}}")


@dataclass(frozen=True, order=True)
class Cell:
    """One training: a method on a task and a backbone, with a seed."""

    benchmark: str
    backbone: str
    task: str
    method: str
    seed: int

    def __str__(self) -> str:
        return "/".join(self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The five parts of the path, as text."""
        return (self.benchmark, self.backbone, self.task, self.method, str(self.seed))

    @property
    def path(self) -> PurePosixPath:
        """The path of the record in the folder of its scale."""
        return PurePosixPath(*self.parts[:-1], f"{self.seed}.json")

    @property
    def base(self) -> Cell:
        """The cell of the first stage: the same without the method's suffix."""
        return self.with_method(parse_method(self.method).base)

    def with_method(self, method: str) -> Cell:
        """Return the same cell for another method."""
        return Cell(self.benchmark, self.backbone, self.task, method, self.seed)

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read a cell from its path.

        Raises:
            UsageError: The text does not have five parts, or the last is not a number.
        """
        parts = text.strip("/").split("/")
        if len(parts) != len(PARTS) or not SEED.fullmatch(parts[-1]) or not all(parts):
            raise UsageError(
                f"{shortened(text)!r} is not a cell: a cell is {'/'.join(PARTS)}, seed a number from 0 to "
                f"{'9' * SEED_DIGITS}"
            )
        benchmark, backbone, task, method, seed = parts
        return cls(benchmark, backbone, task, method, int(seed))


class MethodName(NamedTuple):
    """What a method's name says: ``lora-r8+linear@weight`` is base, suffix and target."""

    base: str
    suffix: str | None
    target: str


def parse_method(name: str) -> MethodName:
    """Split a method's name into the base, what stage 2 does, and on what (feature or weight)."""
    base, plus, suffix = name.partition("+")
    suffix, _, target = suffix.partition("@")
    return MethodName(base, suffix if plus else None, target or "feature")


@dataclass(frozen=True)
class Selector:
    """A cell's path with globs."""

    text: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """One glob for each part of a cell's path."""
        given = self.text.strip("/").split("/") if self.text.strip("/") else []
        if len(given) > len(PARTS):
            raise UsageError(f"selector {self.text!r} has more parts than {'/'.join(PARTS)}")
        return tuple(given) + ("*",) * (len(PARTS) - len(given))

    def matches(self, cell: Cell) -> bool:
        """Say whether a cell is chosen."""
        return all(map(fnmatchcase, cell.parts, self.patterns))
