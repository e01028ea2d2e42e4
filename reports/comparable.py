"""What a table does not take, though the record is whole, ``ok`` and of the declared configuration.

A table never mixes scales, images, weights, or machines within a column of costs: of the records that
differ, the largest group stays (of equal ones the first declared) and the others are refused by name.
Records of code with uncommitted changes, and of runs that did not see all they were meant to, are drafts:
they count only where drafts are asked for, and are marked there. A second stage that started from another
checkpoint than that of its base's record is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Record
from benchmarks.harness.spec import Benchmark
from benchmarks.harness.stage1 import why_not_of_base
from benchmarks.harness.store import State

DIGITS = 12
"""Of a hash, in a reason."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the store holds for one cell.

    Attributes:
        cell: The cell.
        state: How its record stands to what is declared.
        reason: For a record that is not used, why not, on one line.
        path: Where the record lies or would lie, below the folder of results.
        record: The record, if it is used.
        caveat: Why a record that is used makes its table a draft; None if it does not.
    """

    cell: Cell
    state: State
    reason: str | None
    path: str
    record: Record | None = None
    caveat: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether there is a fresh record, which the table does not take."""
        return self.state is State.FRESH and self.record is None

    def refused(self, reason: str) -> Measurement:
        """Return the same cell as a hole."""
        return replace(self, reason=reason, record=None)


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


def machine(record: Record) -> str:
    """The machine that a record is of: its GPU, or its CPU with the threads that were used."""
    hardware = record["hardware"]
    return hardware.get("gpu") or f"{hardware.get('cpu')}, threads: {hardware.get('threads')}"


IMAGES = Sameness("images", _images, is_by_task=True)
WEIGHTS = Sameness("weights", _weights, is_by_task=False)
MACHINE = Sameness("machine", machine, is_by_task=True)


def without_refused(
    found: Iterable[Measurement], benchmark: Benchmark, *, drafts: bool
) -> list[Measurement]:
    """Return the measurements of one backbone with the refused ones as holes that say why."""
    found = list(found)
    bases = {one.cell: one.record for one in found}
    kept = [_as_draft(_of_its_base(one, bases), drafts=drafts) for one in found]
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


def _of_its_base(found: Measurement, bases: Mapping[Cell, Record | None]) -> Measurement:
    """Refuse a second stage that started from another checkpoint than that of its base's record."""
    if found.record is None or found.cell == found.cell.base:
        return found
    why = why_not_of_base(found.record, bases.get(found.cell.base))
    return found if why is None else found.refused(why)


def _as_draft(found: Measurement, *, drafts: bool) -> Measurement:
    why = caveat(found.record) if found.record else None
    if why is None:
        return found
    return replace(found, caveat=why) if drafts else found.refused(f"{why}; a draft takes it")


def _agreeing(found: list[Measurement], sameness: Sameness) -> list[Measurement]:
    values = [sameness.of(one.record) if one.record else None for one in found]
    groups = [one.cell.task if sameness.is_by_task else "" for one in found]
    counts: dict[str, Counter[str]] = {}
    for group, value in zip(groups, values, strict=True):
        if value is not None:
            counts.setdefault(group, Counter())[value] += 1
    # `most_common` keeps the order of first appearance among equals.
    taken = {group: of.most_common(1)[0][0] for group, of in counts.items()}
    return [
        one
        if value is None or value == taken[group]
        else one.refused(f"other {sameness.what} ({value}) than most records ({taken[group]})")
        for one, group, value in zip(found, groups, values, strict=True)
    ]
