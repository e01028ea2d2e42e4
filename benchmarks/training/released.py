"""Reads the values that public repositories give for each task."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.spec import Choice

COLUMNS: dict[str, type[int] | type[float] | type[str]] = {
    "learning_rate": float,
    "weight_decay": float,
    "drop_path": float,
    "rank": int,
    "scale": float,
    "kernel": int,
    "tokens": int,
    "dropout": float,
    "pool": str,
}
"""What a file may have a column of; all but the first three are options of the method."""

OF_BOTH_STAGES = ("learning_rate", "weight_decay")
MAY_BE_ZERO = ("weight_decay", "drop_path", "dropout")
TABLES = ("sources", "every_task", "tasks")


def released(
    folder: Path, method: str, kind: str, task: str, tasks: tuple[str, ...]
) -> dict[str, Choice]:
    """Return the released values for one task, by dotted name; none where nothing is released.

    Args:
        folder: The benchmark's folder of such files.
        method: The method, without its rank.
        kind: What kind of network the backbone is.
        task: The task.
        tasks: All tasks; a file has a line for each.

    Raises:
        UsageError: The method's file is not as it should be.
    """
    for name in (f"{method}.{kind}.toml", f"{method}.toml"):
        path = folder / name
        if path.exists():
            values = load(path, tasks)[task]
            return {
                setting: choice
                for column, choice in values.items()
                for setting in _settings_of(column)
            }
    return {}


@cache
def load(path: Path, tasks: tuple[str, ...]) -> Mapping[str, Mapping[str, Choice]]:
    """Read a file: task -> column -> value with its source.

    Raises:
        UsageError: A task is missing or unknown, a column is unknown or has no source, or a value is of
            the wrong type.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from error
    for name, table in found.items():
        _check_name(path, "table", name, TABLES)
        if not isinstance(table, dict):
            raise UsageError(f"{path.name}: {name} is not a table")
    sources, shared, lines = (found.get(name, {}) for name in TABLES)
    for column, source in sources.items():
        _check_name(path, "column", column, COLUMNS)
        if not isinstance(source, str) or not source:
            raise UsageError(f"{path.name}: the source of {column} is {source!r}, not a text")
    for task in lines:
        _check_name(path, "task", task, tasks)
    if absent := [task for task in tasks if task not in lines]:
        raise UsageError(f"{path.name} has no line for {', '.join(absent)}")
    return {task: _line(path, task, shared, lines[task], sources) for task in tasks}


def _line(
    path: Path, task: str, shared: Mapping[str, Any], line: Any, sources: Mapping[str, str]
) -> dict[str, Choice]:
    if not isinstance(line, dict):
        raise UsageError(f"{path.name}: the line of {task} is {line!r}, not a table")
    if twice := sorted(shared.keys() & line.keys()):
        raise UsageError(f"{path.name}: {task} has {twice[0]}, which is one of every_task too")
    values = {**shared, **line}
    for column in values:
        _check_name(path, "column", column, sources, of=task)
    if absent := [column for column in sources if column not in values]:
        raise UsageError(f"{path.name}: {task} has no {', '.join(absent)}")
    return {
        column: Choice(_checked(path, task, column, value), sources[column])
        for column, value in values.items()
    }


def _checked(path: Path, task: str, column: str, value: Any) -> int | float | str:
    kind = COLUMNS[column]
    if type(value) is not kind and not (kind is float and type(value) is int):
        wanted = {int: "a whole number", float: "a number", str: "a text"}[kind]
        raise UsageError(f"{path.name}: {column} of {task} is {value!r}, not {wanted}")
    if isinstance(value, str):
        return value
    least_is_fine = value == 0 and column in MAY_BE_ZERO
    if not (least_is_fine or 0 < value < float("inf")):
        raise UsageError(f"{path.name}: {column} of {task} is {value!r}, out of its range")
    return kind(value)


def _check_name(
    path: Path, kind: str, name: str, known: Collection[str], *, of: str | None = None
) -> None:
    if name not in known:
        where = path.name if of is None else f"{path.name}, {of}"
        lists = (
            f"python -m benchmarks ls {path.parents[1].name}"
            if kind == "task"
            else Path(__file__).name
        )
        raise UsageError(f"{where}: {unknown(kind, name, known, lists)}")


def _settings_of(column: str) -> tuple[str, ...]:
    if column in OF_BOTH_STAGES:
        return (f"stage1.{column}", f"stage2.{column}")
    return ("backbone.drop_path",) if column == "drop_path" else (f"method.{column}",)
