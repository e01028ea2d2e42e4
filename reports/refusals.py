"""What a table does not take, though the record is whole, ``ok`` and of the declared configuration.

A table never mixes scales, images, weights, or machines within a column of costs: of the records that
differ, the largest group stays (of equal ones the first declared) and the others are refused by name.
Records of code with uncommitted changes, and of runs that did not see all they were meant to, are drafts:
they count only where drafts are asked for, and are marked there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.harness.record import Record
from benchmarks.harness.spec import Benchmark
from reports.measurement import Measurement

Measurements = dict[tuple[str, str], tuple[Measurement, ...]]
"""By method and task."""

DIGITS = 12
"""Of a hash, in a reason."""


@dataclass(frozen=True)
class Sameness:
    """Something that the records of a group must have in common.

    Attributes:
        what: Its name in reasons.
        of: What a record has of it, as text; None where it has none, which is never refused.
        is_by_task: Whether only the records of one task must agree.
    """

    what: str
    of: Callable[[Record], str | None]
    is_by_task: bool


def _images(record: Record) -> str | None:
    data = record["data"]
    if data is None:
        return None
    # Generated images differ between CPUs by the rounding of a few pixels (data_prep/README.md): their
    # identity is the version of the program that draws them.
    if data["variant"] == "embedded":
        return f"embedded, version {data.get('generator_version', 1)}"
    hashes = ", ".join(f"{name} {value[:DIGITS]}" for name, value in data["splits"].items())
    return f"{data['variant']}, {hashes}"


def _weights(record: Record) -> str | None:
    weights = record["weights"]
    if weights is None or weights.get("sha256") is None:
        return None
    return str(weights["sha256"])[:DIGITS]


def _machine(record: Record) -> str | None:
    hardware = record["hardware"]
    return hardware.get("gpu") or f"{hardware.get('cpu')}, threads: {hardware.get('threads')}"


IMAGES = Sameness("images", _images, is_by_task=True)
WEIGHTS = Sameness("weights", _weights, is_by_task=False)
MACHINE = Sameness("machine", _machine, is_by_task=True)


def without_refused(found: Measurements, benchmark: Benchmark, *, drafts: bool) -> Measurements:
    """Return the measurements with the refused ones as holes that say why."""
    kept = _changed(found, lambda measurement: _as_draft(measurement, drafts=drafts))
    for sameness in (MACHINE,) if benchmark.is_timed else (WEIGHTS, IMAGES):
        kept = _agreeing(kept, sameness)
    return kept


def caveat(record: Record) -> str | None:
    """Say why a record is a draft; None if it is not one."""
    dirty = record["code"].get("dirty")
    if dirty is None:
        return "the code that ran is unknown"
    if dirty:
        return "the code that ran had uncommitted changes"
    counts = record["counts"]
    meant = _epochs(record["config"])
    if meant is not None and counts.get("epochs", meant) < meant:
        return f"trained for {counts['epochs']} of {meant} epochs"
    if (seen := counts.get("n_evaluated")) is not None and seen < counts.get("n_test", seen):
        return f"evaluated on {seen} of {counts['n_test']} images"
    return None


def _epochs(config: Mapping[str, Any]) -> int | None:
    section = config.get("stage2", config.get("stage1", {}))
    epochs: int | None = section.get("epochs")
    return epochs


def _as_draft(found: Measurement, *, drafts: bool) -> Measurement:
    why = caveat(found.record) if found.record else None
    if why is None:
        return found
    return replace(found, caveat=why) if drafts else found.refused(f"{why}; a draft takes it")


def _agreeing(found: Measurements, sameness: Sameness) -> Measurements:
    values: dict[str, Counter[str]] = {}
    for measurement in _all(found):
        if measurement.record and (value := sameness.of(measurement.record)) is not None:
            values.setdefault(_group(measurement, sameness), Counter())[value] += 1
    # `most_common` keeps the order of first appearance among equals.
    taken = {group: counts.most_common(1)[0][0] for group, counts in values.items()}

    def checked(measurement: Measurement) -> Measurement:
        value = sameness.of(measurement.record) if measurement.record else None
        expected = taken.get(_group(measurement, sameness))
        if value is None or value == expected:
            return measurement
        return measurement.refused(
            f"other {sameness.what} ({value}) than most records ({expected})"
        )

    return _changed(found, checked)


def _group(found: Measurement, sameness: Sameness) -> str:
    return found.cell.task if sameness.is_by_task else ""


def _all(found: Measurements) -> Iterable[Measurement]:
    return (measurement for measurements in found.values() for measurement in measurements)


def _changed(found: Measurements, change: Callable[[Measurement], Measurement]) -> Measurements:
    return {key: tuple(map(change, measurements)) for key, measurements in found.items()}
