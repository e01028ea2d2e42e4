"""Reads the values that sweeps chose: a file a method, backbone and scale, beside the released values.

``<method>.<backbone>.<scale>.toml`` has the tables of the other files of hyper-parameters. Its columns are
dotted names of settings, ``tasks`` has lines for some tasks or none, and ``sources`` says for each column
what the value of a task, or of every task (``*``), is based on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.kinds import checked
from benchmarks.harness.provenance import ROOT
from benchmarks.harness.spec import Choice

ALL = "*"
TABLES = ("sources", "every_task", "tasks")
FOLLOWING = ("stage1.learning_rate", "stage1.weight_decay")
"""Settings that stage 2 takes from stage 1, unless a sweep chose others for it."""


def folder_of(benchmark: str) -> Path:
    """Return the folder of a benchmark's hyper-parameters."""
    return ROOT / "benchmarks" / benchmark / "hyperparameters"


def with_choices(resolved: Mapping[str, Choice], cell: Cell, scale: str) -> dict[str, Choice]:
    """Return a cell's settings with the sweeps' choices; one for its own task has priority.

    What decides stage 1 is the base method's, so that all second stages of a base share its stage 1.

    Raises:
        UsageError: A file is not as it should be.
    """
    found = dict(resolved)
    base, suffix, _ = parse_method(cell.method)
    for method in dict.fromkeys((base, cell.method)):
        path = folder_of(cell.benchmark) / f"{method}.{cell.backbone}.{scale}.toml"
        for setting, choice in _choices(path, cell.task).items():
            if "+" in method and not setting.startswith("stage2."):
                raise UsageError(f"{path.name}: {setting} belongs to the base of {method}")
            names = [setting]
            if setting in FOLLOWING and suffix:
                names.append(setting.replace("stage1", "stage2"))
            for name in names:
                if name not in resolved:
                    raise UsageError(f"{path.name}: {method} has no setting {name!r}")
                source = choice.source if name == setting else f"as stage 1: {choice.source}"
                found[name] = Choice(choice.value, source)
    return found


def _choices(path: Path, task: str) -> dict[str, Choice]:
    try:
        tables = _read_once(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}
    line = {**tables["every_task"], **tables["tasks"].get(task, {})}
    own = tables["tasks"].get(task, {})
    return {
        name: Choice(value, tables["sources"][name][task if name in own else ALL])
        for name, value in line.items()
    }


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tables of a file, by name; empty ones if it is not there.

    Raises:
        UsageError: It is not such a file, or a value has no source or is not of its setting's kind.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    tables = {name: found.get(name, {}) for name in TABLES}
    lines = [tables["every_task"], *tables["tasks"].values()] if _are_tables(tables) else [None]
    if set(found) - set(TABLES) or not all(isinstance(line, dict) for line in lines):
        raise UsageError(f"{path.name} must have the tables {', '.join(TABLES)} and no others")
    for task, line in ((ALL, tables["every_task"]), *tables["tasks"].items()):
        for name, value in line.items():
            sources = tables["sources"].get(name)
            if not isinstance(sources, dict) or not isinstance(sources.get(task), str):
                raise UsageError(f"{path.name}: {name} of {task} has no source")
            line[name] = checked({name: value})[name]
    return tables


def _are_tables(tables: Mapping[str, Any]) -> bool:
    return all(isinstance(table, dict) for table in tables.values())


@cache
def _read_once(path: Path, changed_ns: int) -> dict[str, dict[str, Any]]:
    return read(path)
