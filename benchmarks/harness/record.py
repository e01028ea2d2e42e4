"""The record of a cell, schema ``resora.result/1``: one JSON object that says all there is to say.

Built from what a runner measured (``Outcome``) and where it ran, checked against the list of fields
below, sealed with a hash over itself. Unknown is null. Only ``store.py`` writes records.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Benchmark, Config, Scale, config_hash

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
    "stage1": (dict, type(None)),  # the run that stage 2 started from; null for stage-1 cells
    "code": (dict,),  # commit, dirty flag, hashes of the folders that ran
    "environment": (dict,),
    "hardware": (dict,),
    "run": (dict,),  # when, which attempt, on the command line of what
    "record_sha256": (str,),  # hash of everything above
}


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
    """A file in the store is not a whole, unaltered record; the message says what is wrong."""


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
    """Join what was asked, what was measured and where it ran, and seal it.

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
    record["record_sha256"] = seal(record)
    check(record, cell)
    return record


def check(record: Record, cell: Cell) -> None:
    """Raise ``InvalidRecord`` unless this is a whole and unaltered record of ``cell``."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise InvalidRecord(f"not a record of schema {SCHEMA}")
    for name, types in FIELDS.items():
        if name not in record:
            raise InvalidRecord(f"field {name!r} is missing")
        if not isinstance(record[name], types):
            raise InvalidRecord(f"field {name!r} has a value of the wrong type")
    if stray := set(record) - set(FIELDS):
        raise InvalidRecord(f"unknown field {min(stray)!r}")
    if record["status"] not in STATUSES:
        raise InvalidRecord(f"unknown status {record['status']!r}")
    if record["record_sha256"] != seal(record):
        raise InvalidRecord(
            "its content does not match its record_sha256: edited after it was written"
        )
    named = record["cell"]
    here = {part: named.get(part) for part in ("benchmark", "backbone", "task", "method", "seed")}
    if here != dict(zip(here, [*cell.parts[:-1], cell.seed], strict=True)):
        raise InvalidRecord(
            f"it is the record of another cell: {'/'.join(map(str, here.values()))}"
        )
    if record["status"] == "ok":
        _check_metrics(record)


def seal(record: Record) -> str:
    """Return the sha256 over everything in a record but the seal itself."""
    body = {key: value for key, value in record.items() if key != "record_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def primary_value(record: Record) -> float | None:
    """Return the primary metric under the primary selection rule, a fraction; None unless ok."""
    if record["status"] != "ok":
        return None
    primary = record["primary"]
    value: float | None = record["metrics"][primary["metric"]][primary["selection"]]
    return value


def _check_metrics(record: Record) -> None:
    primary = record["primary"]
    value = record["metrics"].get(primary["metric"], {}).get(primary["selection"])
    if not isinstance(value, float) or not math.isfinite(value):
        raise InvalidRecord(
            f"status is ok, but its primary metric {primary['metric']!r} is not a number"
        )
