"""Tries values for settings that the paper does not give, and chooses one on held-out images.

Each candidate is trained without the validation images and evaluated on them after the last epoch; the test
split is never loaded. Trials are cells with records below the work folder. They share stage 1 where the
candidates are about the second stage alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.execute import Settings
from benchmarks.harness.kinds import checked
from benchmarks.harness.record import InvalidRecord, Record, primary_value
from benchmarks.harness.registry import benchmark_named, declared, select
from benchmarks.harness.spec import config_hash

if TYPE_CHECKING:
    from pandas import DataFrame

SWEPT = ("stage1.", "stage2.", "method.", "backbone.")
IDENTITY = ("method.name", "backbone.name", "backbone.weights", "stage2.penalty")
"""Settings that identify a cell, and do not change its training."""

SPLITS = ("data.train", "data.val", "data.test")
FINISHED = ("ok", "diverged")
"""States of a trial that a repetition would not change."""

FOLDER_LENGTH = 120

Values = Mapping[str, Any]
"""A candidate: the value of each setting that is tried, by dotted name in the order of the command."""


def words(candidate: Values) -> str:
    """Return a candidate as one would write it on the command line."""
    return " ".join(f"{name}={_text(value)}" for name, value in candidate.items())


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
    candidates: tuple[Values, ...]
    settings: Settings
    train: str
    split: str
    overrides: Mapping[str, Any]

    def settings_of(self, candidate: Values) -> Settings:
        """Return the settings of a candidate's trials, with the folder of their records."""
        name = quote(words(candidate).replace(" ", ","), safe="=,.+-")
        if len(name) > FOLDER_LENGTH:
            name = f"{name[:FOLDER_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        overrides = {**self.settings.overrides, **candidate}
        results = self.settings.results / name
        return dataclasses.replace(self.settings, results=results, overrides=overrides)

    def record(self, candidate: Values, cell: Cell) -> Record | None:
        """Return the record of a trial; None if there is none of this configuration."""
        settings = self.settings_of(candidate)
        try:
            record = settings.store.load(cell)
        except InvalidRecord:
            return None
        wanted = config_hash(settings.config(cell)), benchmark_named(cell.benchmark).version
        if record and (record["config_hash"], record["cell"]["benchmark_version"]) == wanted:
            return record
        return None

    def todo(self, candidate: Values) -> list[Cell]:
        """Return the cells on which a candidate is not finished."""
        records = {cell: self.record(candidate, cell) for cell in self.cells}
        return [cell for cell, one in records.items() if not one or one["status"] not in FINISHED]

    def forget_others(self, candidate: Values, cells: Sequence[Cell]) -> None:
        """Delete trials of other configurations; otherwise the store would keep them if new trials failed."""
        for cell in cells:
            if self.record(candidate, cell) is None:
                self.settings_of(candidate).store.path(cell).unlink(missing_ok=True)

    def trials(self) -> DataFrame:
        """Return a row for each candidate and cell.

        The columns are ``candidate`` (its index), ``backbone``, ``method``, ``task``, ``seed``, ``status``
        (``missing``: it has not run), ``accuracy`` (NaN where the trial has none) and ``record``.
        """
        from pandas import DataFrame

        rows = []
        for index, candidate in enumerate(self.candidates):
            for cell in self.cells:
                record = self.record(candidate, cell)
                status = record["status"] if record else "missing"
                accuracy = primary_value(record) if record else None
                where = (cell.backbone, cell.method, cell.task, cell.seed)
                rows.append((index, *where, status, accuracy, record))
        names = ["candidate", "backbone", "method", "task", "seed", "status", "accuracy", "record"]
        return DataFrame(rows, columns=names).astype({"accuracy": float})


def plan(
    selectors: Sequence[str],
    tries: Mapping[str, Sequence[Any]],
    settings: Settings,
    seeds: Sequence[int] | None = None,
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
    cells = select(selectors, settings.scale)
    known = {cell.seed for cell in cells}
    for seed in set(seeds or ()) - known:
        listed = " ".join(map(str, sorted(known)))
        raise UsageError(f"no chosen cell has the seed {seed}; they have {listed}")
    cells = [cell for cell in cells if seeds is None or cell.seed in seeds]
    names = {cell.benchmark for cell in cells}
    if len(names) > 1:
        raise UsageError(f"a sweep needs one benchmark; chosen are {', '.join(sorted(names))}")
    _check_names(cells, tries, settings)
    typed = {name: _typed(name, values) for name, values in tries.items()}
    candidates = tuple(dict(zip(typed, values, strict=True)) for values in product(*typed.values()))
    if len(candidates) < 2:
        raise UsageError("a sweep needs two or more candidates: --try NAME=V1,V2")
    train, split = _held_out(cells, settings)
    replaced = {"data.train": train, "data.val": None, "data.test": split}
    folder = settings.work / "sweeps"
    return Sweep(
        cells=tuple(cells),
        candidates=candidates,
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


def _check_names(
    cells: Sequence[Cell], tries: Mapping[str, Sequence[Any]], settings: Settings
) -> None:
    kinds = {(cell.backbone, cell.method): cell for cell in cells}
    known = {key: _declared(cell, settings) for key, cell in kinds.items()}
    every = {name for choices in known.values() for name in choices}
    for name in tries:
        if name not in every:
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
            if method != base and not name.startswith("stage2."):
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


def _typed(name: str, values: Sequence[Any]) -> list[Any]:
    """Return values as the setting's kind is written, so that 1 and 1.0 are the same candidate."""
    typed: list[Any] = []
    for given in values:
        value = checked({name: given})[name]
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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
