"""Chooses a candidate of a sweep, and writes it to a file of hyper-parameters, which runs read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.harness.errors import UsageError
from benchmarks.harness.sweep import Sweep, Values
from benchmarks.harness.swept import ALL, TABLES, read

if TYPE_CHECKING:
    from pandas import DataFrame, Series

DIGITS = 12
"""Of a hash, and of accuracies that are compared: means of the same counts may differ in the last bit."""


class Comparison(NamedTuple):
    """The trials of one method on one backbone, for all tasks together or for one.

    Attributes:
        backbone: Name of the backbone.
        method: Name of the method.
        task: Name of the task, or ``*``.
        trials: Its rows of ``Sweep.trials``.
    """

    backbone: str
    method: str
    task: str
    trials: DataFrame

    def accuracies(self, task: str | None = None) -> Series:
        """Return each candidate's mean over tasks of the means over seeds; NaN if a trial has no accuracy."""
        rows = self.trials if task is None else self.trials[self.trials.task == task]
        by_task = rows.groupby(["candidate", "task"]).accuracy.mean(skipna=False)
        return by_task.groupby("candidate").mean(skipna=False).round(DIGITS)

    def best(self, task: str | None = None) -> list[int]:
        """Return the candidates with the highest accuracy, several if they are tied; none if all failed."""
        found = self.accuracies(task)
        return [int(index) for index in found.index[found == found.max()]]

    def images(self) -> int:
        """Return the number of images for the comparison; all seeds share them."""
        finished = self.trials[self.trials.accuracy.notna()].drop_duplicates("task")
        return sum(record["counts"]["n_evaluated"] for record in finished.record)

    def standard_error(self, index: int) -> float:
        """Return the standard error of a candidate's accuracy, as if all tasks were equally hard."""
        accuracy = self.accuracies()[index]
        return math.sqrt(accuracy * (1 - accuracy) / self.images())

    def failed(self, index: int) -> list[str]:
        """Return how the trials of a candidate ended that have no accuracy."""
        rows = self.trials[(self.trials.candidate == index) & self.trials.accuracy.isna()]
        return list(rows.status)

    def source(self, sweep: Sweep) -> str:
        """Return what the choice is based on: accuracies of all candidates, data, weights and code.

        Raises:
            UsageError: Trials are of different data or weights.
        """
        tasks, seeds = self.trials.task.unique(), sorted(self.trials.seed.unique())
        tried = []
        for index, accuracy in self.accuracies().items():
            end = self.failed(index)[0] if math.isnan(accuracy) else f"{100 * accuracy:.1f} %"
            tried.append(f"{words_of_values(sweep.candidates[index])} ({end})")
        ran = self.trials[self.trials.accuracy.notna()]
        facts: dict[str, set[str]] = {}
        for task, record in zip(ran.task, ran.record, strict=True):
            facts.setdefault(f"data of {task}", set()).add(_hash(record["data"]["manifest_sha256"]))
            weights = record["weights"]
            facts.setdefault("weights", set()).add(f"{weights['id']} {_hash(weights['sha256'])}")
        for of, values in facts.items():
            if len(values) > 1:
                raise UsageError(
                    f"trials differ in the {of}: delete {sweep.settings.results} and sweep again"
                )
        code = {_hash(r["code"]["commit"]) + "+changes" * r["code"]["dirty"] for r in ran.record}
        facts["commit"] = {" ".join(sorted(code))}
        replaced = "".join(f", --set {k}={json.dumps(v)}" for k, v in sweep.overrides.items())
        return (
            f"our choice, by a sweep on {sweep.split} of {' '.join(tasks)}, "
            f"seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}: the best of {', '.join(tried)}"
            f"{replaced}; {', '.join(f'{of} {min(values)}' for of, values in facts.items())}"
        )


def words_of_values(candidate: Values) -> str:
    """Return a candidate's value, or all values with their names."""
    if len(candidate) == 1:
        return str(next(iter(candidate.values())))
    return " with ".join(f"{name} {value}" for name, value in candidate.items())


def compare(sweep: Sweep, by: str) -> Iterator[Comparison]:
    """Return a comparison for each backbone and method, and for each task if ``by`` is "task"."""
    for (backbone, method), rows in sweep.trials().groupby(["backbone", "method"], sort=False):
        if by != "task":
            yield Comparison(backbone, method, ALL, rows)
            continue
        for task, own in rows.groupby("task", sort=False):
            yield Comparison(backbone, method, task, own)


def write(comparison: Comparison, sweep: Sweep, folder: Path) -> Path | None:
    """Add the choice to the file of its method, backbone and scale; None if no candidate finished.

    The choice takes the place of earlier ones of the same settings: all of them if it is for all tasks,
    else that of its task.

    Raises:
        UsageError: Trials differ, or the file cannot be read or written.
    """
    best = comparison.best()
    if not best:
        return None
    name = f"{comparison.method}.{comparison.backbone}.{sweep.settings.scale}.toml"
    path, source, task = folder / name, comparison.source(sweep), comparison.task
    tables = read(path)
    sources, shared, tasks = (tables[table] for table in TABLES)
    for setting, value in sweep.candidates[best[0]].items():
        if task == ALL:
            shared[setting], sources[setting] = value, {ALL: source}
            for line in tasks.values():
                line.pop(setting, None)
        else:
            tasks.setdefault(task, {})[setting] = value
            sources.setdefault(setting, {})[task] = source
    text = "# Written by `python -m benchmarks sweep`. A task's value goes before that of every task.\n"
    for table, content in tables.items():
        lines = [
            f"{_toml(key)} = {_toml(value)}\n" for key, value in content.items() if value != {}
        ]
        text += f"\n[{table}]\n{''.join(lines)}"
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _hash(sha256: str | None) -> str:
    return "unknown" if sha256 is None else sha256[:DIGITS]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(name)} = {_toml(one)}' for name, one in value.items())} }}"
    # Of JSON's values, tables alone are written in another way.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
