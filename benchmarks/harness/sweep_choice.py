"""Compares the candidates of a sweep and chooses one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.sweep import Candidate, Sweep, Trial
from benchmarks.harness.sweep_file import ALL, Entry

DIGITS = 12
"""Of a hash, and of accuracies that are compared: means of the same counts may differ in the last bit."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The candidates of one method on one backbone, for all tasks together or for one.

    Attributes:
        task: Name of the task, or ``*``.
        cells: The cells that are compared on; all of one backbone and method.
        candidates: In the order of the command.
        trials: Of each candidate, in the order of ``cells``.
    """

    task: str
    cells: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    trials: tuple[tuple[Trial, ...], ...]

    @property
    def tasks(self) -> list[str]:
        """The tasks of the comparison."""
        return list(dict.fromkeys(cell.task for cell in self.cells))

    def accuracy(self, index: int, task: str | None = None) -> float | None:
        """Return a candidate's mean over tasks of the means over seeds; None if a trial has no accuracy."""
        means = []
        for name in self.tasks if task is None else [task]:
            values = [
                trial.accuracy
                for cell, trial in zip(self.cells, self.trials[index], strict=True)
                if cell.task == name
            ]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                return None
            means.append(fmean(known))
        return fmean(means)

    def best(self, task: str | None = None) -> list[int]:
        """Return the candidates with the highest accuracy, several if they are tied; none if all failed."""
        values = [self.accuracy(index, task) for index in range(len(self.candidates))]
        rounded = [None if value is None else round(value, DIGITS) for value in values]
        highest = max((value for value in rounded if value is not None), default=None)
        if highest is None:
            return []
        return [index for index, value in enumerate(rounded) if value == highest]

    def images(self) -> int:
        """Return the number of images for the comparison; all seeds share them."""
        counts = {
            cell.task: trial.record["counts"]["n_evaluated"]
            for trials in self.trials
            for cell, trial in zip(self.cells, trials, strict=True)
            if trial.record is not None and trial.accuracy is not None
        }
        return sum(counts.values())

    def standard_error(self, index: int) -> float:
        """Return the standard error of a candidate's accuracy, as if all tasks were equally hard."""
        accuracy = self.accuracy(index) or 0.0
        return math.sqrt(accuracy * (1 - accuracy) / self.images())

    def status(self, index: int) -> str:
        """Return ``ok``, or how the first trial of a candidate that has no accuracy ended."""
        return next((t.status for t in self.trials[index] if t.accuracy is None), "ok")


def compare(sweep: Sweep, by: str) -> list[Comparison]:
    """Return the comparisons: one for each backbone and method, and for each task if ``by`` is "task"."""
    found = []
    kinds = dict.fromkeys((cell.backbone, cell.method) for cell in sweep.cells)
    for backbone, method in kinds:
        alike = [cell for cell in sweep.cells if (cell.backbone, cell.method) == (backbone, method)]
        tasks = dict.fromkeys(cell.task for cell in alike) if by == "task" else [ALL]
        for task in tasks:
            cells = tuple(cell for cell in alike if task in (ALL, cell.task))
            trials = tuple(
                tuple(sweep.trial(candidate, cell) for cell in cells)
                for candidate in sweep.candidates
            )
            found.append(
                Comparison(task=task, cells=cells, candidates=sweep.candidates, trials=trials)
            )
    return found


def entries(sweep: Sweep, comparison: Comparison) -> list[Entry]:
    """Return the entries of a comparison for the file of sweeps, one a setting; none if all failed.

    Raises:
        UsageError: Trials are of different data or weights.
    """
    best = comparison.best()
    if not best:
        return []
    winner, accuracy = comparison.candidates[best[0]], comparison.accuracy(best[0])
    assert accuracy is not None
    first = comparison.cells[0]
    ran = [
        (cell, trial.record)
        for trials in comparison.trials
        for cell, trial in zip(comparison.cells, trials, strict=True)
        if trial.record is not None and trial.record["status"] == "ok"
    ]
    data = {
        task: _only(
            {r["data"]["manifest_sha256"][:DIGITS] for c, r in ran if c.task == task}, task, sweep
        )
        for task in comparison.tasks
    }
    variant = _only({record["data"]["variant"] for _, record in ran}, "the data", sweep)
    weights = _only({_weights(record["weights"]) for _, record in ran}, "the backbone", sweep)
    return [
        Entry(
            scale=sweep.settings.scale,
            backbone=first.backbone,
            method=first.method,
            task=comparison.task,
            setting=setting,
            value=value,
            accuracy=accuracy,
            train=sweep.train,
            split=sweep.split,
            tasks=comparison.tasks,
            seeds=sorted({cell.seed for cell in comparison.cells}),
            candidates=[_tried(comparison, index) for index in range(len(comparison.candidates))],
            overrides=dict(sweep.overrides),
            variant=variant,
            data=data,
            weights=list(weights),
            commits=_commits(record["code"] for _, record in ran),
        )
        for setting, value in winner.values.items()
    ]


def _tried(comparison: Comparison, index: int) -> dict[str, Any]:
    accuracy = comparison.accuracy(index)
    end = {"status": comparison.status(index)} if accuracy is None else {"accuracy": accuracy}
    return {**comparison.candidates[index].values, **end}


def _only(values: set[Any], of: str, sweep: Sweep) -> Any:
    """Return the one value that all trials have."""
    if len(values) > 1:
        raise UsageError(
            f"trials differ in the data or weights of {of}: delete {sweep.settings.results} and sweep again"
        )
    return next(iter(values))


def _weights(weights: dict[str, Any]) -> tuple[str, ...]:
    sha256 = weights["sha256"]
    return (weights["id"],) if sha256 is None else (weights["id"], sha256[:DIGITS])


def _commits(codes: Iterable[dict[str, Any]]) -> list[str]:
    named = {
        "unknown"
        if code["commit"] is None
        else code["commit"][:DIGITS] + ("+changes" if code["dirty"] else "")
        for code in codes
    }
    return sorted(named)


def outlived(kept: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Return choices for single tasks that have priority over new ones for all tasks."""
    general = {(*entry.key[:3], entry.setting) for entry in new if entry.task == ALL}
    return [e for e in kept if e.task != ALL and (*e.key[:3], e.setting) in general]
