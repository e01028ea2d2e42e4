"""Tries candidates for settings that the paper does not give, and chooses one on held-out images.

Every candidate is trained without the validation images and evaluated on these after the last epoch; the
test split is never loaded. Trials are records of their own, below the work folder. They share stage 1
wherever candidates are about the second stage alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple
from urllib.parse import quote

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.execute import Settings
from benchmarks.harness.record import InvalidRecord, Record, primary_value
from benchmarks.harness.registry import benchmark_named, declared, select
from benchmarks.harness.spec import config_hash
from benchmarks.harness.sweep_file import OF_STAGE2

SWEPT = ("stage1.", "stage2.", "method.", "backbone.")
IDENTITY = ("method.name", "backbone.name", "backbone.weights", "stage2.penalty")
"""Settings that identify a cell, and do not change its training."""

SPLITS = ("data.train", "data.val", "data.test")
FINISHED = ("ok", "diverged")
"""States of a trial that a repetition would not change."""

FOLDER_LENGTH = 120

Tries = Mapping[str, Sequence[Any]]
"""Dotted name -> values to try."""


@dataclass(frozen=True)
class Candidate:
    """A value for each setting that is tried.

    Attributes:
        values: By dotted name, in the order of the command.
    """

    values: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join(f"{name}={_text(value)}" for name, value in self.values.items())

    @property
    def folder(self) -> str:
        """A name for the folder of its trials."""
        name = quote(str(self).replace(" ", ","), safe="=,.+-")
        if len(name) <= FOLDER_LENGTH:
            return name
        return f"{name[:FOLDER_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class Trial(NamedTuple):
    """The result of a candidate on one cell; the status ``missing`` means that it has not run."""

    status: str
    accuracy: float | None = None
    record: Record | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Candidates and cells of a sweep.

    Attributes:
        cells: The cells that each candidate is trained on.
        candidates: In the order of the command.
        settings: How to run, with everything that is replaced but the candidates' values.
        train: The split that is trained on.
        split: The split that accuracies are of.
        overrides: What the command line replaces besides.
    """

    cells: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    settings: Settings
    train: str
    split: str
    overrides: Mapping[str, Any]

    def settings_of(self, candidate: Candidate) -> Settings:
        """Return the settings of a candidate's trials, with the folder of their records."""
        return dataclasses.replace(
            self.settings,
            results=self.settings.results / candidate.folder,
            overrides={**self.settings.overrides, **candidate.values},
        )

    def trial(self, candidate: Candidate, cell: Cell) -> Trial:
        """Return the result of a candidate on a cell; a record of another configuration does not count."""
        settings = self.settings_of(candidate)
        try:
            record = settings.store.load(cell)
        except InvalidRecord:
            record = None
        expected = config_hash(settings.config(cell)), benchmark_named(cell.benchmark).version
        if record is None or _identity(record) != expected:
            return Trial("missing")
        return Trial(record["status"], primary_value(record), record)

    def todo(self, candidate: Candidate) -> list[Cell]:
        """Return the cells on which a candidate is not finished."""
        return [cell for cell in self.cells if self.trial(candidate, cell).status not in FINISHED]

    def forget_others(self, candidate: Candidate, cells: Sequence[Cell]) -> None:
        """Delete trials of other configurations; otherwise the store would keep them if new trials failed."""
        for cell in cells:
            if self.trial(candidate, cell).status == "missing":
                self.settings_of(candidate).store.path(cell).unlink(missing_ok=True)


def plan(
    selectors: Sequence[str], tries: Tries, settings: Settings, seeds: Sequence[int] | None = None
) -> Sweep:
    """Return the sweep that a command asks for.

    Args:
        selectors: They choose the cells.
        tries: The settings and the values of each; several make a product.
        settings: How to run; ``work`` gets the trials, and ``results`` nothing.
        seeds: The seeds to run of those that the selectors choose; None: all.

    Raises:
        UsageError: There is nothing to choose, or it cannot be chosen here.
    """
    cells = _of_seeds(select(selectors, settings.scale), seeds)
    names = {cell.benchmark for cell in cells}
    if len(names) > 1:
        raise UsageError(f"a sweep needs one benchmark; chosen are {', '.join(sorted(names))}")
    _check_names(cells, tries, settings)
    typed = {name: _typed(name, values, cells, settings) for name, values in tries.items()}
    candidates = [
        Candidate(dict(zip(typed, values, strict=True))) for values in product(*typed.values())
    ]
    if len(candidates) < 2:
        raise UsageError("a sweep needs two or more candidates: --try NAME=V1,V2")
    train, split = _held_out(cells, settings)
    replaced = {"data.train": train, "data.val": None, "data.test": split}
    folder = settings.work / "sweeps"
    return Sweep(
        cells=tuple(cells),
        candidates=tuple(candidates),
        settings=dataclasses.replace(
            settings,
            results=folder / "trials",
            work=folder / "checkpoints",
            overrides={**settings.overrides, **replaced},
        ),
        train=train,
        split=split,
        overrides=settings.overrides,
    )


def _of_seeds(cells: list[Cell], seeds: Sequence[int] | None) -> list[Cell]:
    if seeds is None:
        return cells
    known = {cell.seed for cell in cells}
    for seed in seeds:
        if seed not in known:
            raise UsageError(
                f"no chosen cell has the seed {seed}; they have {' '.join(map(str, sorted(known)))}"
            )
    return [cell for cell in cells if cell.seed in seeds]


def _check_names(cells: Sequence[Cell], tries: Tries, settings: Settings) -> None:
    kinds = {(cell.backbone, cell.method): cell for cell in cells}
    known = {key: _declared(cell, settings) for key, cell in kinds.items()}
    for name in tries:
        if all(name not in choices for choices in known.values()):
            every = {key for choices in known.values() for key in choices}
            raise unknown("setting", name, every, "python -m benchmarks show CELL")
        if not name.startswith(SWEPT) or name in IDENTITY:
            raise UsageError(
                f"{name} cannot be swept; these can: "
                f"{', '.join(f'{prefix}*' for prefix in SWEPT)}, except {', '.join(IDENTITY)}"
            )
        if name in settings.overrides:
            raise UsageError(f"{name} is in both --try and --set")
        for (_, method), cell in kinds.items():
            base = cell.base.method
            if method != base and not name.startswith(OF_STAGE2):
                raise UsageError(
                    f"{name} decides stage 1, which all methods on {base} share: sweep {base} "
                    f"instead of {method}"
                )
    for (_, method), choices in known.items():
        if absent := [name for name in tries if name not in choices]:
            raise UsageError(f"{method} has no setting {absent[0]}: leave it out of the selector")
    if replaced := [name for name in SPLITS if name in settings.overrides]:
        raise UsageError(
            f"{replaced[0]} is not for --set here: a sweep holds validation images out"
        )


def _typed(
    name: str, values: Sequence[Any], cells: Sequence[Cell], settings: Settings
) -> list[Any]:
    """Return values with the type of the declared one, so that 1 and 1.0 are the same candidate."""
    now = _declared(cells[0], settings)[name]
    typed: list[Any] = []
    for given in values:
        value = float(given) if type(now) is float and type(given) is int else given
        if value is None or (now is not None and type(value) is not type(now)):
            raise UsageError(
                f"{name}={_text(value)} has another type than the present value, {_text(now)}"
            )
        if value in typed:
            raise UsageError(f"{name}={_text(value)} is listed twice")
        typed.append(value)
    return typed


def _declared(cell: Cell, settings: Settings) -> dict[str, Any]:
    benchmark, scale = declared(cell, settings.scale)
    return {
        key: choice.value for key, choice in benchmark.configure(benchmark, cell, scale).items()
    }


def _held_out(cells: Sequence[Cell], settings: Settings) -> tuple[str, str]:
    """Return the splits for training and comparing; they are disjoint and have no test image."""
    found = set()
    for cell in {cell.method: cell for cell in cells}.values():
        choices = _declared(cell, settings)
        val, train = choices.get("data.val"), choices.get("data.train")
        if val is None or train is None:
            raise UsageError(f"{cell.benchmark} has no validation images to choose on")
        left = "+".join(part for part in train.split("+") if part != val)
        if not left or choices["data.test"] in (val, *left.split("+")):
            raise UsageError(f"{cell.benchmark} does not hold out its validation images")
        found.add((left, val))
    if len(found) > 1:
        raise UsageError("the chosen cells have different training splits: sweep them one by one")
    return found.pop()


def _identity(record: Record) -> tuple[str, int]:
    return record["config_hash"], record["cell"]["benchmark_version"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
