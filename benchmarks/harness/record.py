"""The record of a cell, schema ``resora.result/1``: one JSON object with everything about the run.

Built from what a runner measured (``Outcome``) and where it ran, checked against the list of fields
below, sealed with a hash over itself. Unknown is null. Only ``store.py`` writes records.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.plain_text import plain_text
from benchmarks.harness.spec import Benchmark, Config, Metric, Scale, config_hash

SCHEMA = "resora.result/1"
STATUSES = ("ok", "failed", "diverged", "oom", "timeout", "cancelled")

Record = dict[str, Any]

FIELDS: dict[str, tuple[type, ...]] = {
    "schema": (str,),
    "cell": (dict,),  # benchmark, benchmark_version, scale, backbone, task, method, seed
    "status": (str,),  # one of STATUSES
    "error": (str, type(None)),  # one line; null when ok
    "config": (dict,),  # resolved, all that decides the numbers
    "config_hash": (str,),
    "protocol": (dict,),  # splits, normalisation, selection rules, source of each hyper-parameter
    "metrics": (dict,),  # metric -> selection rule -> value (fraction) or null
    "primary": (dict,),  # metric and selection rule that tables print
    "curves": (dict,),  # stage -> series, one value an epoch
    "redundancy": (dict, type(None)),  # mean cos^2 at start and end: overall, and by adapted matrix
    "counts": (dict,),  # examples meant and seen
    "cost": (dict,),  # seconds, bytes, parameters
    "data": (dict, type(None)),  # fingerprint of what was trained and tested on
    "weights": (dict, type(None)),  # fingerprint of the backbone's weights
    "stage1": (
        dict,
        type(None),
    ),  # the checkpoint of stage 1: written, or started from; null if unknown
    "code": (dict,),  # commit, dirty flag, hashes of the folders that ran
    "environment": (dict,),
    "hardware": (dict,),
    "run": (dict,),  # when, which attempt, on the command line of what
    "record_sha256": (str,),  # hash of everything above
}

TEXT, WHOLE, NUMBER, NOTHING = (str,), (int,), (int, float), (type(None),)

WITHIN: dict[str, dict[str, tuple[type, ...]]] = {
    "cell": {"benchmark_version": WHOLE, "scale": TEXT, "seed": WHOLE},
    "primary": {"metric": TEXT, "selection": TEXT},
    "run": {"attempt": WHOLE, "started_at": TEXT, "finished_at": TEXT, "overrides": (dict,)},
    "code": {"commit": TEXT + NOTHING, "dirty": (bool, *NOTHING), "trees": (dict,)},
    "hardware": {"device": TEXT, "gpu": TEXT + NOTHING, "cpu": TEXT + NOTHING},
    "data": {"variant": TEXT},
    "weights": {"id": TEXT, "sha256": TEXT + NOTHING},
    "stage1": {"cell": TEXT, "config_hash": TEXT, "checkpoint_sha256": TEXT},
    "cost": {"total_seconds": NUMBER, "trainable_params": WHOLE},
}
"""Types of the fields of a field, where they are there."""

NEEDED = {
    "cell": ("benchmark_version", "scale"),
    "primary": ("metric", "selection"),
    "run": ("attempt",),
}
"""Fields of a field that are always there."""

LARGEST = 10**18
"""No count, and no whole number in a record at all, is larger."""


@dataclass(kw_only=True)
class Outcome:
    """What a runner measured in one cell; every number of a record comes through here.

    Attributes:
        primary: Name of the primary metric; None: the benchmark's first. For a cell that has no such number.
    """

    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    redundancy: dict[str, Any] | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    weights: dict[str, Any] | None = None
    stage1: dict[str, Any] | None = None
    primary: str | None = None


class InvalidRecord(Exception):
    """A file in the store is not a complete, unaltered record; the message gives the fault."""

    def __init__(self, message: str) -> None:
        """Take the message, which may quote the file."""
        super().__init__(plain_text(message))


def build_record(
    benchmark: Benchmark,
    scale: Scale,
    cell: Cell,
    config: Config,
    *,
    status: str,
    error: str | None,
    outcome: Outcome,
    sources: Config,
    where: dict[str, Any],
    run: dict[str, Any],
) -> Record:
    """Join the request, the results and the environment, and add the hash.

    Args:
        benchmark: The declaration of the cell's benchmark.
        scale: The scale it ran at.
        cell: The cell.
        config: The resolved configuration.
        status: One of ``STATUSES``.
        error: One line, unless the status is ``ok``.
        outcome: What was measured; empty unless the status is ``ok``.
        sources: Where each value of the configuration comes from.
        where: ``code``, ``environment`` and ``hardware`` of ``provenance.py``.
        run: Times, attempt and command line.
    """
    measured = asdict(outcome)
    metric = measured.pop("primary") or benchmark.metrics[0].name
    measured["protocol"] = measured["protocol"] | {
        "selections": list(benchmark.selections),
        "sources": sources,
    }
    record: Record = {
        "schema": SCHEMA,
        "cell": {
            "benchmark": cell.benchmark,
            "benchmark_version": benchmark.version,
            "scale": scale.name,
            "backbone": cell.backbone,
            "task": cell.task,
            "method": cell.method,
            "seed": cell.seed,
        },
        "status": status,
        "error": error,
        "config": config,
        "config_hash": config_hash(config),
        "primary": {"metric": metric, "selection": benchmark.selections[0]},
        **measured,
        **where,
        "run": run,
    }
    try:
        record["record_sha256"] = seal(record)
    except ValueError as error:
        raise InvalidRecord(f"it would hold a value that no record has ({error})") from error
    check(record, cell, benchmark.metrics, scale.name)
    return record


def parse(content: bytes) -> Any:
    """Read a record's JSON; duplicate keys, what is not finite and a number without end are refused.

    Raises:
        InvalidRecord: It is not such JSON.
    """
    try:
        text = content.decode("utf-8")
        found = json.loads(
            text, object_pairs_hook=_distinct, parse_int=_whole, parse_constant=_not_finite
        )
        if "\\ud" in text.lower():  # half a character, which nothing can print
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except RecursionError as error:
        raise InvalidRecord("not a record: nested too deeply") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise InvalidRecord(f"not whole JSON ({error}): truncated or edited") from error


def check(
    record: Any, cell: Cell, metrics: Iterable[Metric] = (), scale: str | None = None
) -> None:
    """Raise ``InvalidRecord`` unless this is a complete and unaltered record of ``cell``.

    Args:
        record: What was read.
        cell: The cell whose place it was read from.
        metrics: What the cell's benchmark measures, with the range of each.
        scale: The scale that it has to be of; None: any.
    """
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise InvalidRecord(f"not a record of schema {SCHEMA}")
    for name, types in FIELDS.items():
        if name not in record:
            raise InvalidRecord(f"field {name!r} is missing")
        _check_type(name, record[name], types)
    if stray := set(record) - set(FIELDS):
        raise InvalidRecord(f"unknown field {min(stray)!r}")
    if record["status"] not in STATUSES:
        raise InvalidRecord(f"unknown status {record['status']!r}")
    try:
        is_sealed = record["record_sha256"] == seal(record)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"it has a value that no record has ({error})") from error
    if not is_sealed:
        raise InvalidRecord(
            "its content does not match its record_sha256: edited after it was written"
        )
    named = record["cell"]
    here = {part: named.get(part) for part in ("benchmark", "backbone", "task", "method", "seed")}
    if here != dict(zip(here, [*cell.parts[:-1], cell.seed], strict=True)):
        raise InvalidRecord(
            f"it is the record of another cell: {'/'.join(map(str, here.values()))}"
        )
    _check_within(record)
    if scale is not None and named["scale"] != scale:
        raise InvalidRecord(
            f"it is a record of the scale {named['scale']!r} in the folder of {scale!r}"
        )
    _check_values(record, {metric.name: metric for metric in metrics})


def seal(record: Record) -> str:
    """Return the sha256 over everything in a record except the hash itself."""
    body = {key: value for key, value in record.items() if key != "record_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def not_finite(value: Any, place: str = "") -> str | None:
    """Return the place of the first number in nested values that is not finite, and the number, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}"
    if isinstance(value, dict):
        parts: Any = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple) else ()
    found = (not_finite(one, f"{place}.{name}" if place else str(name)) for name, one in parts)
    return next((one for one in found if one is not None), None)


def primary_value(record: Record) -> float | None:
    """Return the primary metric under the primary selection rule, a fraction; None unless ok."""
    if record["status"] != "ok":
        return None
    primary = record["primary"]
    value: float | None = record["metrics"][primary["metric"]][primary["selection"]]
    return value


def _check_type(name: str, value: Any, types: tuple[type, ...]) -> None:
    # True is an int in Python, and no number in a record.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise InvalidRecord(f"field {name!r} has a value of the wrong type")


def _check_within(record: Record) -> None:
    for name, inner in WITHIN.items():
        found = record[name] or {}
        if absent := [key for key in NEEDED.get(name, ()) if key not in found]:
            raise InvalidRecord(f"field '{name}.{absent[0]}' is missing")
        for key in inner.keys() & found.keys():
            _check_type(f"{name}.{key}", found[key], inner[key])


def _check_values(record: Record, metrics: Mapping[str, Metric]) -> None:
    """Check that numbers are in their possible ranges."""
    for name in ("counts", "cost"):
        for key, value in _leaves(record[name], name):
            if value is not None and (name == "counts" or not isinstance(value, str)):
                _check_type(key, value, NUMBER)
                _check_range(key, value, 0, LARGEST)
    for name, by_rule in record["metrics"].items():
        _check_type(f"metrics.{name}", by_rule, (dict,))
        for rule, value in by_rule.items():
            _check_type(f"metrics.{name}.{rule}", value, (float, *NOTHING))
            if name in metrics and value is not None:
                metric = metrics[name]
                _check_range(f"metrics.{name}.{rule}", value, metric.lowest, metric.highest)
    _check_curves(record["curves"], metrics)
    for end in ("start", "end") if record["redundancy"] else ():
        mean: Any = (record["redundancy"].get(end) or {}).get("mean")
        _check_type(f"redundancy.{end}.mean", mean, NUMBER)
        _check_range(f"redundancy.{end}.mean", mean, 0, 1 + 1e-3)  # rounding of a cos^2
    if record["status"] == "ok":
        primary = record["primary"]
        value = record["metrics"].get(primary["metric"], {}).get(primary["selection"])
        if value is None:
            raise InvalidRecord(
                f"status is ok, but its primary metric {primary['metric']!r} is not a number"
            )


def _check_curves(curves: dict[str, Any], metrics: Mapping[str, Metric]) -> None:
    """Check the test and validation curves of declared metrics."""
    for stage, series in curves.items():
        _check_type(f"curves.{stage}", series, (dict,))
        for name, values in series.items():
            _, _, of = name.partition("_")
            if of not in metrics:
                continue
            _check_type(f"curves.{stage}.{name}", values, (list,))
            for value in values:
                if value is not None:
                    _check_type(f"curves.{stage}.{name}", value, NUMBER)
                    metric = metrics[of]
                    _check_range(f"curves.{stage}.{name}", value, metric.lowest, metric.highest)


def _check_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise InvalidRecord(f"{name} is {value:g}, which is not between {lowest:g} and {highest:g}")


def _leaves(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Iterate what is no dictionary or list, with where it is."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _whole(text: str) -> int:
    if len(text) > len(str(LARGEST)):
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is not a number")
