"""``swept.toml``: the values that sweeps chose. A benchmark's ``configure`` reads it.

An entry is one value of one setting, for one task or for all, with all that it was chosen on.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.provenance import ROOT
from benchmarks.harness.spec import Choice

ALL = "*"
"""The task of an entry that is for all tasks."""

OF_STAGE2 = "stage2."
FOLLOWING = ("learning_rate", "weight_decay")
"""Settings that stage 2 takes from stage 1, unless a sweep chose others for it."""

HEADER = (
    "# Written by `python -m benchmarks sweep`; a new choice takes the place of one with the same scale,\n"
    "# backbone, method, task and setting. A candidate without an accuracy failed.\n"
)
TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": str,
    "float": float,
    "list[str]": list,
    "list[int]": list,
    "list[dict[str, Any]]": list,
    "dict[str, Any]": dict,
    "dict[str, str]": dict,
    "Any": (bool, int, float, str, list, dict),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value that a sweep has chosen.

    Attributes:
        scale: The scale that it was chosen at and is for.
        backbone: Name of the backbone.
        method: Name of the method; a base method, except for a setting of stage 2.
        task: Name of the task, or ``*``.
        setting: Dotted name.
        value: The value.
        accuracy: Of the winner: the mean over tasks, and within a task over seeds; a fraction.
        train: The split that was trained on.
        split: The split that accuracies are of.
        tasks: The tasks it was chosen on.
        seeds: The seeds it was chosen on.
        candidates: In the order of the command: settings by dotted name, and ``accuracy``, or ``status``
            where a trial did not come to its end.
        overrides: Other settings that the command line replaced.
        variant: Of the data.
        data: First digits of the hash of each task's manifest.
        weights: Name of the backbone's weights and first digits of their hash.
        commits: The code of the trials.
    """

    scale: str
    backbone: str
    method: str
    task: str
    setting: str
    value: Any
    accuracy: float
    train: str
    split: str
    tasks: list[str]
    seeds: list[int]
    candidates: list[dict[str, Any]]
    overrides: dict[str, Any]
    variant: str
    data: dict[str, str]
    weights: list[str]
    commits: list[str]

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """The key of an entry; a file has one entry a key."""
        return (self.scale, self.backbone, self.method, self.task, self.setting)

    @property
    def source(self) -> str:
        """The source of the value, as in records."""
        candidates = ", ".join(map(_described, self.candidates))
        overrides = ", ".join(f"{name} {value}" for name, value in self.overrides.items())
        return (
            f"our choice, by a sweep on {self.split}: {100 * self.accuracy:.1f} % over "
            f"{' '.join(self.tasks)}, {seeds_in_words(self.seeds)}; the best of {candidates}"
        ) + (f"; with {overrides}" if overrides else "")


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return ``seed 0``, or ``seeds 0 1 2``."""
    return f"seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}"


def file_of(benchmark: str) -> Path:
    """Return the file of a benchmark's sweeps."""
    return ROOT / "benchmarks" / benchmark / "hyperparameters" / "swept.toml"


def entries_of(benchmark: str) -> tuple[Entry, ...]:
    """Return the choices of a benchmark's sweeps; none if there is no file."""
    path = file_of(benchmark)
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ()


def read(path: Path) -> list[Entry]:
    """Return the entries of a file; none if it is not there.

    Raises:
        UsageError: It is not such a file.
    """
    if not path.exists():
        return []
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if set(found) - {"choice"} or not isinstance(found.get("choice", []), list):
        raise UsageError(f"{path} is not a file of sweeps: it must have only [[choice]] tables")
    entries = [_entry(path, number, raw) for number, raw in enumerate(found.get("choice", []), 1)]
    keys = [entry.key for entry in entries]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UsageError(f"{path} has two choices for {' '.join(twice[0])}")
    return entries


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Add entries to a file, replacing those with the same key; the write is atomic.

    Raises:
        UsageError: What is there is not such a file, or it cannot be written.
    """
    kept = {entry.key: entry for entry in read(path)} | {entry.key: entry for entry in entries}
    text = HEADER + "".join(map(_toml, kept.values()))
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def with_choices(
    resolved: Mapping[str, Choice], entries: Iterable[Entry], cell: Cell, scale: str
) -> dict[str, Choice]:
    """Return a cell's settings with the sweeps' choices; one for its own task has priority.

    What decides stage 1 is the base method's, so that all second stages of a base share its stage 1.

    Raises:
        UsageError: An entry is about a setting that its method does not have.
    """
    base = parse_method(cell.method).base
    chosen: dict[str, Choice] = {}
    for entry in sorted(entries, key=lambda entry: entry.task != ALL):
        owner = cell.method if entry.setting.startswith(OF_STAGE2) else base
        here = (scale, cell.backbone, owner)
        if (entry.scale, entry.backbone, entry.method) != here or entry.task not in (
            ALL,
            cell.task,
        ):
            continue
        if entry.setting not in resolved:
            raise UsageError(
                f"{file_of(cell.benchmark).name}: {entry.method} has no setting {entry.setting!r}"
            )
        chosen[entry.setting] = Choice(entry.value, entry.source)
    for name in FOLLOWING:
        first, second = f"stage1.{name}", f"{OF_STAGE2}{name}"
        if first in chosen and second in resolved:
            chosen.setdefault(
                second, Choice(chosen[first].value, f"as stage 1: {chosen[first].source}")
            )
    return {**resolved, **chosen}


@cache
def _read_once(path: Path, changed_ns: int) -> tuple[Entry, ...]:
    return tuple(read(path))


def _described(candidate: Mapping[str, Any]) -> str:
    settings = {key: v for key, v in candidate.items() if key not in ("accuracy", "status")}
    values = " with ".join(
        str(v) if len(settings) == 1 else f"{key} {v}" for key, v in settings.items()
    )
    if "accuracy" in candidate:
        return f"{values} ({100 * candidate['accuracy']:.1f} %)"
    return f"{values} ({candidate.get('status', 'failed')})"


def _entry(path: Path, number: int, raw: Any) -> Entry:
    where = f"{path}: choice {number}"
    names = {field.name: str(field.type) for field in fields(Entry)}
    if not isinstance(raw, dict):
        raise UsageError(f"{where} is not a table")
    if absent := [name for name in names if name not in raw]:
        raise UsageError(f"{where} has no {absent[0]}")
    if stray := [name for name in raw if name not in names]:
        raise UsageError(f"{where} has an unknown key {stray[0]!r}")
    for name, kind in names.items():
        if not isinstance(raw[name], TYPES[kind]):
            raise UsageError(f"{where}: {name} is {raw[name]!r}, which is not of the type {kind}")
    if "+" in raw["method"] and not raw["setting"].startswith(OF_STAGE2):
        raise UsageError(f"{where}: {raw['setting']} belongs to the base of {raw['method']}")
    return Entry(**raw)


def _toml(entry: Entry) -> str:
    lines = [f"{name} = {_value(value)}" for name, value in asdict(entry).items()]
    return "\n[[choice]]\n" + "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool | str):
        # JSON's escapes in a string are TOML's.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a number")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(name)} = {_value(v)}" for name, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        if value and all(isinstance(one, Mapping) for one in value):
            return "[\n" + "".join(f"    {_value(one)},\n" for one in value) + "]"
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no {type(value).__name__}")
